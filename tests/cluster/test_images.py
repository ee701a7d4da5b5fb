"""The images that are built have what their page lists, say what they are, and run as any user on a read-only root."""

import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from images_reference import packages

from cluster import images
from cluster.outside import obstacle
from dagferry_core import __version__

pytestmark = pytest.mark.cluster
NAMES = ("server", "sidecar")
MOST_MB = {"server": 120, "sidecar": 40}
"""What an image may add to its base, uncompressed; the page says what it was."""
FOLDERS = {"server": ("var/lib/dagferry", 0o2770), "sidecar": ("dags", 0o775)}
"""What a new volume of Docker gets its owner and mode from."""


@dataclass(frozen=True)
class Image:
    """What an archive has: its configuration, and all members of its layers, in their order."""

    config: dict[str, Any]
    members: list[tarfile.TarInfo]


def read(archive: Path) -> Image:
    with tarfile.open(archive) as outer:
        [manifest] = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(outer.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        members: list[tarfile.TarInfo] = []
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                members += inner.getmembers()
    return Image(config, members)


@pytest.fixture(scope="module")
def built() -> dict[str, Image]:
    """The images of this checkout."""
    if reason := obstacle():
        pytest.skip(reason)
    archives = {path.name: path for path in images.build()}
    return {
        name: read(path) for name in NAMES for file, path in archives.items() if file.startswith(f"dagferry-{name}-")
    }


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_packages_are_those_of_the_page(built: dict[str, Image], name: str) -> None:
    found = {
        match[1].replace("_", "-").lower(): match[2]
        for member in built[name].members
        if (match := re.fullmatch(r"opt/dagferry/lib/python3\.\d+/site-packages/(.+)-([^-]+)\.dist-info", member.name))
    }
    assert found == {**dict(packages(name)), "dagferry": __version__}


def test_it_runs_as_a_number_and_says_what_it_is(built: dict[str, Image], name: str) -> None:
    config = built[name].config["config"]
    assert config["User"] == "50000:0"
    assert config["Entrypoint"] == [f"/opt/dagferry/bin/dagferry-{name}"]
    assert config["Labels"]["org.opencontainers.image.title"] == f"dagferry-{name}"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_every_user_may_read_and_run_it_and_none_but_root_may_change_it(built: dict[str, Image], name: str) -> None:
    ours = [member for member in built[name].members if member.name.startswith("opt/dagferry")]
    assert ours
    for member in ours:
        if member.issym():
            continue
        assert (member.uid, member.gid) == (0, 0)
        assert not member.mode & 0o022, member.name
        assert member.mode & 0o004, member.name
    [command] = [member for member in ours if member.name == f"opt/dagferry/bin/dagferry-{name}"]
    assert command.mode & 0o111 == 0o111


def test_a_new_volume_belongs_to_the_user_and_is_open_to_group_0(built: dict[str, Image], name: str) -> None:
    path, mode = FOLDERS[name]
    [folder] = [member for member in built[name].members if member.name.rstrip("/") == path]
    assert (folder.uid, folder.gid, folder.mode & 0o7777) == (50000, 0, mode)


def test_everything_is_compiled_because_a_read_only_root_can_cache_nothing(built: dict[str, Image], name: str) -> None:
    names = {member.name for member in built[name].members}
    sources = {one for one in names if re.search(r"site-packages/dagferry_\w+/.*\.py$", one)}
    assert sources
    for source in sources:
        folder, _, file = source.rpartition("/")
        assert any(one.startswith(f"{folder}/__pycache__/{file.removesuffix('.py')}.cpython-") for one in names), source


def test_it_stays_slim(built: dict[str, Image], name: str) -> None:
    added = sum(member.size for member in built[name].members if member.name.startswith("opt/dagferry"))
    assert 0 < added / 1e6 < MOST_MB[name]
