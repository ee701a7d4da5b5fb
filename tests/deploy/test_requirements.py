"""The pinned requirements are what pyproject.toml asks for, on every Python, and name nothing but PyPI's packages."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deployfiles import HOME

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
ASKED = {
    "build": PROJECT["build-system"]["requires"] + GROUPS["build"],
    "server": EXTRAS["server"] + EXTRAS["objectstore"],
    "sidecar": EXTRAS["sidecar"],
    "client": EXTRAS["client"],
    "test": EXTRAS["server"] + EXTRAS["objectstore"] + EXTRAS["sidecar"] + EXTRAS["client"] + GROUPS["test"],
    "bucket-aws": GROUPS["bucket-aws"],
    "bucket-gcp": GROUPS["bucket-gcp"],
    "fuzz": GROUPS["fuzz"],
    "proxies": GROUPS["proxies"],
    "check": EXTRAS["server"]
    + EXTRAS["objectstore"]
    + EXTRAS["sidecar"]
    + EXTRAS["client"]
    + GROUPS["test"]
    + GROUPS["check"],
}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


FILES = {
    **{path.stem: path for path in Path(HOME, "requirements").glob("*.txt")},
    **{f"bucket-{cloud}": HOME / "deploy" / "ci" / "bucket" / f"requirements-{cloud}.txt" for cloud in ("aws", "gcp")},
}


def pins(name: str) -> list[Requirement]:
    text = FILES[name].read_text()
    return [Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z].*", text, re.MULTILINE)]


def environment(python: str) -> dict[str, str]:
    """What markers are held against: Linux with this Python."""
    return {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}


def pinned(name: str, python: str) -> dict[str, str]:
    """Package to version, as pip takes them."""
    found = [pin for pin in pins(name) if pin.marker is None or pin.marker.evaluate(environment(python))]
    assert len({canonicalize_name(pin.name) for pin in found}) == len(found)
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def test_each_file_has_a_source() -> None:
    assert set(FILES) == set(ASKED)


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_satisfy_the_project(name: str, python: str) -> None:
    versions = pinned(name, python)
    for asked in map(Requirement, ASKED[name]):
        if asked.marker is None or asked.marker.evaluate(environment(python)):
            assert asked.specifier.contains(versions[canonicalize_name(asked.name)]), asked


@pytest.mark.parametrize("name", sorted(ASKED.keys() - {"fuzz", "proxies"}))  # they have environments of their own
@pytest.mark.parametrize("python", PYTHONS)
def test_one_version_of_a_package_serves_every_purpose(name: str, python: str) -> None:
    assert pinned(name, python).items() <= pinned("check", python).items()


@pytest.mark.parametrize("name", ASKED)
def test_a_file_has_nothing_but_exact_versions_with_their_hashes(name: str) -> None:
    for line in FILES[name].read_text().splitlines():
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][^/]* \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line)
        assert not re.search(r"https?:|\s/", line)
