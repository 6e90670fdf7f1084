"""What we depend on: locked by version and hash, whole, and under licences we may use.

Known vulnerabilities are looked up in a database that changes daily, which a test without a
network cannot do; what it can do is to make sure that the lock is all there is to look up.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import clarity_pipeline

ROOT: Final = Path(clarity_pipeline.__file__).parent.parent
VENDORED: Final = Path(clarity_pipeline.__file__).parent / "panel" / "static" / "vendor"

VENDORED_FILES: Final = {
    "chart-4.6.1.umd.min.js": "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2",
    "htmx-2.0.11.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
}
"""What browsers are sent of others, by SHA-256: nobody changes a line of it unseen."""

ALLOWED_LICENCES: Final = (
    r"MIT( License)?|MIT-0|MIT/X11",
    r"ISC( License \(ISCL\))?|0BSD|Zlib|CC0-1\.0|PSF-2\.0|Python Software Foundation License",
    r"(3-Clause )?BSD( License)?|BSD-[23]-Clause|BSD 3-Clause",
    r"Apache([ -]2\.0| Software License)",
    # As libraries that are used unchanged; what is built with them may have any licence.
    r"MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)",
    r"LGPL-3\.0-only|GNU Library or Lesser General Public License \(LGPL\)",
    r"DFSG approved",
)

LICENCES_NOT_SAID: Final = {"axe-playwright-python": "MIT"}
"""Of packages whose metadata does not say it; read in their repositories."""


def locked() -> list[Requirement]:
    """The requirements of the lock that hold for this machine."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    requirements = [
        Requirement(line.rstrip("\\ "))
        for line in lines
        if line and not line.startswith(("#", " ", "-"))
    ]
    return [each for each in requirements if each.marker is None or each.marker.evaluate()]


def test_every_requirement_is_locked_by_version_and_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    assert len(entries) > 100
    for entry in entries:
        first, *hashes = (line.strip().rstrip("\\").strip() for line in entry.splitlines())
        assert re.fullmatch(r"[\w.-]+(\[[\w,.-]+\])?==[\w.!+]+( ; .+)?", first), first
        assert hashes, first
        for line in hashes:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line), first


def test_every_dependency_of_ours_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in locked()
    }
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        version = versions.get(canonicalize_name(wanted.name))
        assert version is not None, text
        assert wanted.specifier.contains(version, prereleases=True), (text, version)


def test_what_is_installed_is_what_is_locked() -> None:
    different = {
        each.name: metadata.version(each.name)
        for each in locked()
        if not each.specifier.contains(metadata.version(each.name), prereleases=True)
    }
    assert different == {}


def test_nothing_that_is_installed_lacks_what_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "No broken requirements found.")


def test_every_licence_is_one_we_may_use() -> None:
    refused = {
        each.name: licences
        for each in locked()
        if not is_allowed(licences := licences_of(each.name))
    }
    assert refused == {}


@pytest.mark.parametrize(
    "licences",
    [
        [],
        ["GPL-3.0-only"],
        ["AGPL-3.0-or-later"],
        ["MIT AND GPL-2.0-only"],
        ["Proprietary"],
        ["MIT License", "Other/Proprietary License"],
    ],
)
def test_a_licence_we_may_not_use_is_found(licences: list[str]) -> None:
    assert not is_allowed(licences)


def test_a_choice_of_licences_needs_one_we_may_use() -> None:
    assert is_allowed(["GPL-2.0-only OR MIT"])
    assert is_allowed(["MPL-2.0 AND (Apache-2.0 OR GPL-3.0-only)"])


def is_allowed(licences: list[str]) -> bool:
    """Whether all of them may be used; of a choice, one is enough."""
    parts = [part for text in licences for part in text.split(" AND ")]
    return bool(parts) and all(any(map(_may_be_used, part.split(" OR "))) for part in parts)


def _may_be_used(licence: str) -> bool:
    # "(MIT" is half of a choice in brackets; "(ISCL)" is part of a name.
    forms = (licence.strip(), licence.strip(" ()"))
    return any(re.fullmatch("|".join(ALLOWED_LICENCES), form, re.IGNORECASE) for form in forms)


def licences_of(name: str) -> list[str]:
    """What a package says of its licence: as SPDX, by classifiers, or in its own words."""
    said = metadata.metadata(name)
    classifiers = [
        text.rsplit(" :: ", 1)[-1]
        for text in said.get_all("Classifier") or []
        if text.startswith("License :: ")
    ]
    own = [text.splitlines()[0] for text in said.get_all("License") or [] if text]
    known = [LICENCES_NOT_SAID[name]] if name in LICENCES_NOT_SAID else []
    return said.get_all("License-Expression") or classifiers or own or known


def test_what_browsers_are_sent_of_others_is_unchanged_and_has_its_licence() -> None:
    scripts = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDORED.glob("*.js")
    }
    assert scripts == VENDORED_FILES
    for name in scripts:
        library = name.partition("-")[0]
        assert list(VENDORED.glob(f"{library}-LICENSE*")), name
