"""The API keeps to its document, whatever it is sent; and what the document says."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from clarity_pipeline.operations import connecting
from clarity_pipeline_tests.panel.conftest import Panel

METHODS = {"get", "put", "post", "delete"}


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What is found here is about requests; the operations are tried on both databases."""
    return sqlite_url


def document_of(panel: Panel) -> dict[str, Any]:
    reply = panel.anybody().get("/api/openapi.json")
    assert reply.status_code == 200
    return reply.json()


def operations_of(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def codes_of(operation: dict[str, Any], status: str) -> list[str]:
    schema = operation["responses"][status]["content"]["application/problem+json"]["schema"]
    return schema["allOf"][1]["properties"]["code"]["enum"]


def test_the_document_needs_no_key_names_its_version_and_is_always_the_same(panel: Panel) -> None:
    document = document_of(panel)
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.0.0"
    assert set(document["components"]["securitySchemes"]) == {"key", "session", "form_token"}
    assert json.dumps(document) == json.dumps(document_of(panel))


def test_both_audiences_have_the_same_operations_under_names_of_their_own(panel: Panel) -> None:
    operations = operations_of(document_of(panel))
    agency = "/api/agency/businesses/{business_id}/clarity"
    of_agency = {(m, p.removeprefix(agency)) for m, p in operations if p.startswith(agency)}
    client = "/api/client/clarity"
    of_client = {(m, p.removeprefix(client)) for m, p in operations if p.startswith(client)}
    assert of_agency - of_client == {("get", "/history"), ("post", "/purge")}
    assert of_client < of_agency
    assert ("put", "/config") in of_client
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    assert {"agency_read_config", "client_read_config"} <= set(names)
    assert {path.split("/")[2] for _, path in operations} == {"agency", "client"}


def test_every_operation_says_what_it_does_who_may_and_what_may_go_wrong(panel: Panel) -> None:
    for (method, path), operation in operations_of(document_of(panel)).items():
        assert method in METHODS
        assert operation["description"], path
        assert operation["tags"], path
        assert {"key": []} in operation["security"], path
        assert codes_of(operation, "401") == ["not_signed_in"]
        assert ("form_expired" in codes_of(operation, "403")) == (method != "get")
        if "{business_id}" in path:
            assert "unknown_business" in codes_of(operation, "404")


def test_a_refusal_has_its_code_in_the_document(panel: Panel) -> None:
    operations = operations_of(document_of(panel))
    change = operations["put", "/api/client/clarity/config"]
    assert codes_of(change, "409") == ["not_connected"]
    assert codes_of(change, "422") == ["invalid_project_id", "invalid_request", "invalid_token"]
    test = operations["post", "/api/client/clarity/test"]
    assert codes_of(test, "409") == ["last_call_unconfirmed", "not_connected"]


def test_neither_a_request_nor_an_answer_has_anything_that_is_not_in_the_document(
    panel: Panel,
) -> None:
    schemas = document_of(panel)["components"]["schemas"]
    open_ones = [
        name
        for name, schema in schemas.items()
        if "properties" in schema and schema.get("additionalProperties") is not False
    ]
    assert open_ones == []


def test_a_token_is_write_only_in_the_document(panel: Panel) -> None:
    schemas = document_of(panel)["components"]["schemas"]
    token = schemas["ConnectionChange"]["properties"]["token"]
    assert any(each.get("writeOnly") for each in token["anyOf"])
    assert set(schemas["TokenTold"]["properties"]) == {
        "last4",
        "expires_at",
        "needs_renewal",
        "has_expired",
    }


def settings_for(authorization: str) -> SchemathesisConfig:
    """Every check but one, seeded, with few examples beside those that cover every constraint.

    That what fits the schema is accepted is not asked for: a token that fits it may have expired,
    and a connection may be paused.
    """
    return SchemathesisConfig.from_dict(  # pyright: ignore[reportUnknownMemberType]
        {
            "seed": 20261102,
            "base-url": "http://127.0.0.1:8300",
            "headers": {"Authorization": authorization},
            "generation": {"deterministic": True, "max-examples": 3, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
            "checks": {"positive_data_acceptance": {"enabled": False}},
            "continue-on-failure": True,
        }
    )


def part_for(document: dict[str, Any], audience: str) -> dict[str, Any]:
    """The operations of an audience, about a business that there is."""
    paths = {
        path: operations
        for path, operations in document["paths"].items()
        if path.startswith(f"/api/{audience}/")
    }
    for (method, path), operation in operations_of({"paths": paths}).items():
        if path.startswith("/api/agency/rules/") and sends_a_rule(operation):
            # Every constraint of a rule is tried where rules are added.
            content = operation["requestBody"]["content"]["application/json"]
            paths[path][method] = operation | {
                "requestBody": {"content": {"application/json": content | {"schema": {}}}}
            }
        for parameter in operation.get("parameters", []):
            if (parameter["name"], parameter["in"]) == ("business_id", "path"):
                parameter["schema"] = {"type": "string", "enum": ["acme"]}
    return document | {"paths": paths, "components": without_nesting(document["components"])}


def sends_a_rule(operation: dict[str, Any]) -> bool:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return content.get("schema", {}).get("$ref") == "#/components/schemas/Rule"


def without_nesting(components: dict[str, Any]) -> dict[str, Any]:
    """Conditions of a rule that stand alone: of a tree without an end schemathesis makes a case for
    every constraint at every depth."""
    schemas = copy.deepcopy(components["schemas"])
    schemas["Rule"]["properties"]["conditions"] = {"$ref": "#/components/schemas/Condition"}
    return components | {"schemas": schemas}


@pytest.mark.parametrize("audience", ["agency", "client"])
def test_schemathesis_finds_nothing(panel: Panel, audience: str) -> None:
    panel.agency.connect("acme", sessions_per_day=20)
    panel.agency.connect("globex", project_id=panel.agency.projects["acme"].project_id)
    program = panel.key(business_id=None if audience == "agency" else "acme")
    document = part_for(document_of(panel), audience)
    schema = schemathesis.openapi.from_dict(
        document, config=settings_for(program.headers["authorization"])
    )
    schema.app = panel.app
    found: list[str] = []
    requests: Counter[str] = Counter()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioStarted():
                # Some scenarios disconnect it, and the others would find nothing to do.
                connect_again(panel)
            case events.ScenarioFinished(recorder=recorder):
                requests[recorder.label] += len(recorder.interactions)
                found += [
                    f"{recorder.label}: {check.name}: {check.failure_info.failure}"
                    for checks in recorder.checks.values()
                    for check in checks
                    if check.failure_info is not None
                ]
            case events.NonFatalError(info=info):
                found.append(f"{event.label}: {info}")
            case events.FatalError(exception=exception):
                raise exception
            case _:
                pass
    assert not found, "\n\n".join(found)
    operations = {f"{m.upper()} {path}" for m, path in operations_of(document)}
    assert operations <= {label for label, count in requests.items() if count >= 5}


def connect_again(panel: Panel) -> None:
    connecting.connect(
        panel.agency.database,
        panel.agency.vault,
        business_id="acme",
        project_id=panel.agency.projects["acme"].project_id,
        token=panel.agency.token("acme"),
        now=panel.agency.now,
    )
