"""When assets that cost nothing are rebuilt without being asked.

Never put a condition on `clarity_raw_exports`: conditions see no error class and would spend
the day's quota on one failure after the other.
"""

from typing import Final

import dagster as dg

WHEN_UPSTREAM_HAS_CHANGED: Final = (
    dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    )
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("upstream has changed")
"""Eager, but for every partition: a past day that is landed or replayed is rolled up as well."""

automation_sensor = dg.AutomationConditionSensorDefinition(
    name="clarity_automation_sensor",
    target=dg.AssetSelection.groups("clarity"),
    description="Rebuilds days whose upstream has changed, and evaluates rules on them again.",
    # Unlike the schedule it may run from the start: what it asks for costs no call.
    default_status=dg.DefaultSensorStatus.RUNNING,
)
