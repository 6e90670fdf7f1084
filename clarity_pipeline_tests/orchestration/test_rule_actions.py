"""The sensor that sends what rules have decided, on a real instance."""

from __future__ import annotations

from collections.abc import Generator

import dagster as dg
import pytest

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.settings import load_settings
from clarity_pipeline.store.vault import open_vault
from clarity_pipeline_tests.agency import Agency
from clarity_pipeline_tests.notify.receiver import webhook
from clarity_pipeline_tests.rule_agency import RuleAgency, open_rule_agency


@pytest.fixture
def rules(agency: Agency, monkeypatch: pytest.MonkeyPatch) -> Generator[RuleAgency]:
    with open_rule_agency(agency.database, open_vault(load_settings())) as opened:
        opened.now = agency.now
        monkeypatch.setenv("CLARITY_META_API_URL", opened.base_url)
        yield opened


def tick(agency: Agency) -> str:
    """One evaluation of the sensor, as the daemon makes it; returns what it says."""
    repository = agency.definitions().get_repository_def()
    sensor = repository.get_sensor_def("clarity_rule_action_sensor")
    with (
        agency.instance() as instance,
        dg.build_sensor_context(
            instance=instance,
            repository_def=repository,
            resources=dict(repository.get_top_level_resources()),
        ) as context,
    ):
        return str(sensor.evaluate_tick(context).skip_message)


def test_what_was_decided_is_done_and_told(
    agency: Agency, rules: RuleAgency, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = "0 done, 0 skipped, 0 failed, 0 to be tried again, 0 expired."
    assert tick(agency) == nothing
    rules.decide(rules.add_rule({"kind": "pause"}, {"kind": "alert"}, name="Spend"), [1])
    with webhook() as receiver:
        monkeypatch.setenv("CLARITY_NOTICE_URLS", receiver.url)
        assert tick(agency).startswith("2 done")
        assert tick(agency) == nothing
    assert rules.running == [2, 3, 4, 5, 6]
    assert receiver.titles == ["Spend: Campaign 1"]


def test_settings_that_cannot_be_used_lose_nothing(
    agency: Agency, rules: RuleAgency, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules.decide(rules.add_rule({"kind": "pause"}), [1])
    with monkeypatch.context() as broken:
        broken.setenv("CLARITY_NOTICE_URLS", "nonsense://somewhere")
        with pytest.raises(ConfigurationError):
            tick(agency)
    assert tick(agency).startswith("1 done")
