"""Imports run one way, and every outside library has one home."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import clarity_pipeline

PACKAGE = "clarity_pipeline"
ROOT = Path(clarity_pipeline.__file__).parent

_WORK = frozenset(
    {"domain", "settings", "export_api", "ad_platforms", "store", "notify", "operations"}
)

ALLOWED_LAYERS: Mapping[str, frozenset[str]] = {
    "": frozenset(),
    "domain": frozenset({"domain"}),
    "settings": frozenset({"domain"}),
    "export_api": frozenset({"domain", "settings", "export_api"}),
    "ad_platforms": frozenset({"domain", "settings", "ad_platforms"}),
    "store": frozenset({"domain", "settings", "store"}),
    "notify": frozenset({"domain", "settings", "notify"}),
    "operations": _WORK,
    "orchestration": _WORK | {"orchestration"},
    "panel": _WORK | {"panel"},
    "definitions": _WORK | {"orchestration"},
    "demo": _WORK | {"orchestration", "panel", "definitions", "demo"},
    "cli": _WORK | {"orchestration", "panel", "definitions", "demo", "cli"},
}
"""What each layer may import of the package; "" is the package's own `__init__`."""

HOMES: Mapping[str, frozenset[str]] = {
    "dagster": frozenset({"orchestration", "definitions", "demo", "cli"}),
    "httpx": frozenset({"export_api", "ad_platforms", "notify"}),
    "sqlalchemy": frozenset({"store"}),
    "psycopg": frozenset({"store"}),
    "alembic": frozenset({"store"}),
    "apprise": frozenset({"notify"}),
    "argon2": frozenset({"panel"}),
    "fastapi": frozenset({"panel"}),
    "jinja2": frozenset({"panel"}),
    "starlette": frozenset({"export_api", "ad_platforms", "panel"}),
    "uvicorn": frozenset({"export_api", "ad_platforms", "panel", "demo", "cli"}),
    "typer": frozenset({"cli"}),
    "yaml": frozenset({"domain"}),
}
"""The layers that may import a library."""

READS_THE_ENVIRONMENT = frozenset({"settings", "cli", "demo"})
"""The last two set variables for the processes they start."""

IMPURE = frozenset(
    {
        "asyncio",
        "os",
        "random",
        "secrets",
        "shutil",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
    }
    | {"time", "urllib.request", "uuid"}
)
"""Standard modules that domain/ has no business with."""

ENVIRONMENT = frozenset({"os.environ", "os.environb", "os.getenv"})
CLOCKS = frozenset({"datetime.now", "datetime.utcnow", "datetime.today", "date.today"})

MODULES = sorted(ROOT.rglob("*.py"))


def layer_of(module: str) -> str:
    """`clarity_pipeline.store.exports` is of the layer `store`."""
    return [*module.split("."), ""][1]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """Every module that is named, wherever in the file; `from a import b` names `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            # Of the bare package, it is the name that says which layer is meant.
            if node.module == PACKAGE:
                yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def violations(source: str, *, module: str) -> list[str]:
    """What this source of that module may not do, one line each."""
    tree, layer = ast.parse(source), layer_of(module)
    return [
        *(
            f"{layer} may not import {name}"
            for name in imported_modules(tree)
            if not _may(layer, name)
        ),
        *(f"{layer} may not use {name}" for name in _forbidden_uses(tree, layer)),
    ]


def _may(layer: str, imported: str) -> bool:
    top = imported.split(".")[0]
    if top == PACKAGE:
        return layer_of(imported) in ALLOWED_LAYERS[layer]
    # `dagster_postgres` lives where `dagster` does;
    home = HOMES.get(top.split("_")[0])
    return (home is None or layer in home) and not (layer == "domain" and imported in IMPURE)


def _forbidden_uses(tree: ast.Module, layer: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            # Whoever writes `os.environ` in full can be found.
            yield "names out of os"
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        name = f"{node.value.id}.{node.attr}"
        if name in ENVIRONMENT and layer not in READS_THE_ENVIRONMENT:
            yield name
        if name in CLOCKS and layer == "domain":
            yield name


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module=module_name(path)) == []


def test_every_module_is_looked_at() -> None:
    layers = {layer_of(module_name(path)) for path in MODULES}
    assert {"domain", "settings", "export_api", "store", "operations", "orchestration"} <= layers
    assert layers <= set(ALLOWED_LAYERS)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain.urls", "from clarity_pipeline.store import database"),
        ("domain.urls", "import clarity_pipeline.settings"),
        ("domain.urls", "from clarity_pipeline import settings"),
        ("domain.urls", "import dagster"),
        ("domain.urls", "import httpx"),
        ("domain.urls", "from sqlalchemy.dialects import postgresql"),
        ("domain.urls", "import starlette.applications"),
        ("domain.urls", "import time"),
        ("domain.urls", "from datetime import datetime\nnow = datetime.now()"),
        ("export_api.client", "from clarity_pipeline.store.database import Database"),
        ("export_api.client", "import psycopg"),
        ("store.exports", "from clarity_pipeline.export_api.client import ClarityClient"),
        ("store.exports", "def late() -> None:\n    import httpx"),
        ("store.exports", "import os\nurl = os.environ['CLARITY_DATABASE_URL']"),
        ("store.exports", "from os import environ"),
        ("ad_platforms.meta", "from clarity_pipeline.store.database import Database"),
        ("ad_platforms.meta", "from clarity_pipeline.export_api.client import ExportApiClient"),
        ("operations.rule_actions", "import httpx"),
        ("operations.days", "from clarity_pipeline.orchestration.jobs import daily_sync"),
        ("operations.days", "import dagster_postgres"),
        ("operations.notices", "import apprise"),
        ("notify.addresses", "from clarity_pipeline.store.database import Database"),
        ("orchestration.jobs", "import sqlalchemy"),
        ("orchestration.jobs", "import os\nhome = os.getenv('DAGSTER_HOME')"),
        ("orchestration.jobs", "from clarity_pipeline.definitions import defs"),
        ("panel.app", "from clarity_pipeline.definitions import defs"),
        ("panel.app", "from clarity_pipeline.orchestration import jobs"),
        ("cli", "import sqlalchemy"),
        ("cli", "import httpx"),
        ("operations.rules", "import yaml"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert violations(source, module=f"{PACKAGE}.{module}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain.urls", "from clarity_pipeline.domain.errors import ClarityError\nimport idna"),
        ("export_api.client", "import httpx\nfrom clarity_pipeline.settings import Settings"),
        ("ad_platforms.meta", "import httpx\nfrom clarity_pipeline.settings import Settings"),
        ("store.database", "import os\nimport sqlalchemy as sa\nprint(os.sep)"),
        ("orchestration.jobs", "import dagster as dg\nimport dagster_postgres"),
        ("cli", "import os\nimport typer\nos.environ['DAGSTER_HOME'] = 'home'"),
    ],
)
def test_an_allowed_import_is_left_alone(module: str, source: str) -> None:
    assert violations(source, module=f"{PACKAGE}.{module}") == []
