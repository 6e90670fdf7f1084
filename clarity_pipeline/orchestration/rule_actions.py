"""The sensor that does what rules have decided.

It runs from the start: only an armed rule ever writes what it sends, and the switch stops it.
"""

import dagster as dg

from clarity_pipeline.operations.rule_actions import deliver_due
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource

SECONDS_BETWEEN_TICKS = 30


@dg.sensor(
    name="clarity_rule_action_sensor",
    minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
    description="Sends what armed rules have decided: to ad platforms, people and webhooks.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clarity_rule_action_sensor(store: StoreResource, clock: ClockResource) -> dg.SkipReason:
    delivered = deliver_due(
        store.database,
        settings=store.settings,
        open_vault=lambda: store.vault,
        now=clock.now(),
    )
    return dg.SkipReason(
        f"{delivered.done} done, {delivered.skipped} skipped, {delivered.failed} failed, "
        f"{delivered.postponed} to be tried again, {delivered.expired} expired."
    )
