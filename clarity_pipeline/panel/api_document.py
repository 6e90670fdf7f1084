"""The OpenAPI document of the API: who may ask what, and every error with its code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse, Response

from clarity_pipeline.domain.errors import ClarityError, UnknownBusiness
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.panel.api_models import ProblemDocument
from clarity_pipeline.panel.errors import (
    FormExpired,
    NotAllowed,
    NotSignedIn,
    code_of_status,
    status_of,
)
from clarity_pipeline.panel.guard import FORM_TOKEN_HEADER, cookie_name

_PROBLEMS: Final = "x-problems"
_REFERENCE: Final = "#/components/schemas/{model}"

_DESCRIPTION: Final = """\
Connects businesses to Microsoft Clarity and reads what was collected of them.

The same operations are there twice: below `/api/agency/businesses/{business_id}/clarity` for the
agency, and below `/api/client/clarity` for a client, whose business comes from its session or key
and never from the request. Days are UTC days, instants are UTC. Every error is a problem
(RFC 9457) whose `code` is stable.
"""

_TAGS: Final = [
    {"name": "Connection", "description": "Project, token, test, pause, disconnect, quota."},
    {"name": "Syncs", "description": "Asking for a sync, and what became of each."},
    {"name": "Figures", "description": "What was collected; as JSON, or as CSV."},
    {"name": "Rules", "description": "What rules say, what they decided, what they want done."},
    {"name": "Ads", "description": "Campaigns, ad sets, ads, their numbers, and ad accounts."},
    {"name": "Agency", "description": "All businesses, and who did what."},
]

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
def show_document(request: Request) -> Response:
    """The document. It says nothing of any business, so it needs no key."""
    kept = request.app.state
    if not hasattr(kept, "api_document"):
        kept.api_document = api_document(request.app)
    return JSONResponse(kept.api_document)


def problems(*errors: type[ClarityError]) -> dict[str, Any]:
    """`openapi_extra` of an operation that may be refused with these, beside what all may."""
    return {_PROBLEMS: [(status_of(error), error.code) for error in errors]}


def api_document(app: FastAPI) -> dict[str, Any]:
    """The document of this application; the same for the same program and settings."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary="History of Microsoft Clarity for an agency and its clients.",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, path=path, method=method)
    components = document["components"]
    # Of a rule what may be sent, which leaves more open than what is told.
    _, own = models_json_schema(
        [(ProblemDocument, "validation"), (Rule, "validation")],
        ref_template=_REFERENCE,
        by_alias=True,
    )
    schemas: dict[str, Any] = components["schemas"] | own["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, of the agency or of one business.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie_name(app.state.services),
            "description": "The session of somebody who has signed in.",
        },
        "form_token": {
            "type": "apiKey",
            "in": "header",
            "name": FORM_TOKEN_HEADER,
            "description": "Beside a session, of every request that changes something.",
        },
    }
    return document


def _complete(operation: dict[str, Any], *, path: str, method: str) -> None:
    """Add what is true of every operation: an id, who may, and what may go wrong."""
    audience = "agency" if path.startswith("/api/agency") else "client"
    operation["operationId"] = f"{audience}_{operation['summary'].lower().replace(' ', '_')}"
    changes = method != "get"
    operation["security"] = [
        {"key": []},
        {"session": [], "form_token": []} if changes else {"session": []},
    ]
    found: list[tuple[int, str]] = [*operation.pop(_PROBLEMS, [])]
    common: list[type[ClarityError]] = [NotSignedIn, NotAllowed]
    if changes:
        common.append(FormExpired)
    if "{business_id}" in path:
        common.append(UnknownBusiness)
    if "{rule_id}" in path:
        # What is no number is no address either.
        found.append((HTTPStatus.NOT_FOUND, code_of_status(HTTPStatus.NOT_FOUND)))
    found += [(status_of(error), error.code) for error in common]
    found += [
        (status_of(error), error.code) for error in _descendants(ClarityError) if _is_ours(error)
    ]
    found.append((HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected"))
    if "parameters" in operation or "requestBody" in operation:
        found.append((HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request"))
    if "requestBody" in operation:
        for status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            found.append((status, code_of_status(status)))
    operation["responses"].pop("422", None)
    operation["responses"] |= _responses(found)


def _is_ours(error: type[ClarityError]) -> bool:
    """Whether it is a fault of this side that may come upon any operation."""
    return status_of(error) in {
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }


def _descendants(error: type[ClarityError]) -> Iterable[type[ClarityError]]:
    yield error
    for each in error.__subclasses__():
        yield from _descendants(each)


def _responses(found: Iterable[tuple[int, str]]) -> dict[str, Any]:
    codes: defaultdict[int, set[str]] = defaultdict(set)
    for status, code in found:
        codes[status].add(code)
    return {
        str(int(status)): {
            "description": ", ".join(f"`{code}`" for code in sorted(codes[status])),
            "content": {
                "application/problem+json": {
                    "schema": {
                        "allOf": [
                            {"$ref": _REFERENCE.format(model=ProblemDocument.__name__)},
                            {
                                "properties": {
                                    "status": {"const": int(status)},
                                    "code": {"enum": sorted(codes[status])},
                                }
                            },
                        ]
                    }
                }
            },
        }
        for status in sorted(codes)
    }
