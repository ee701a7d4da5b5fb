"""A sidecar follows the server of then, and goes on from the volume of then: see tests/golden/README.md."""

import socket

import pytest

from goldens import (
    DEPLOYMENT,
    DEPLOYS,
    WRITTEN,
    copy_data,
    each_format,
    exchange,
    listing,
    of_deploys,
    replayed,
    shape,
    unpack_volume,
)
from harness import eventually

ONCE = ("--deployment", DEPLOYMENT, "--once")


def version(golden, number: int) -> str:
    return of_deploys(golden, "current")[number - 1].body["version"]


@pytest.fixture
def run_once(follow):
    """Run a sidecar to its end, on ``tmp_path/volume``; return what it logged."""

    def run(url: str) -> list[str]:
        sidecar = follow(url, "volume", *ONCE)
        assert sidecar.process.wait(30) == 0, sidecar.log.read_text()
        return [line["message"] for line in sidecar.logged()]

    return run


@each_format
def test_an_older_volume_is_live_without_a_server_and_stays_as_it_is(golden, tmp_path, run_once) -> None:
    root = unpack_volume(golden, tmp_path / "volume")
    before, paths = shape(root), listing(root)
    assert before[0] == version(golden, DEPLOYS[-1])
    with socket.socket() as nobody:  # bound and not listening: who connects is refused
        nobody.bind(("127.0.0.1", 0))
        run_once(f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert (shape(root), listing(root)) == (before, paths)


@each_format
def test_an_older_volume_has_what_an_older_server_has(golden, tmp_path, run_once) -> None:
    root = unpack_volume(golden, tmp_path / "volume")
    before = shape(root)
    with replayed(golden) as (url, replay):
        replay.number = DEPLOYS[-1]
        run_once(url)
        assert replay.asked == [f"/{DEPLOYMENT}/dags/current"]
    assert shape(root) == before


@each_format
def test_an_older_volume_and_an_older_data_folder_go_on_with_a_patch(golden, tmp_path, serve, follow) -> None:
    unpack_volume(golden, tmp_path / "volume")
    copy_data(golden, tmp_path / "data")
    server = serve("--deployments", f"{DEPLOYMENT},staging")
    sidecar = follow(server, "volume", "--deployment", DEPLOYMENT).runs(version(golden, DEPLOYS[-1]))
    files = {**sidecar.tree(), "shop.py": b"rate = 3\n"}
    sidecar.runs(server.deploy(files, DEPLOYMENT)["version"])
    assert sidecar.tree() == files

    def kinds() -> list[object]:
        return [line["kind"] for line in sidecar.logged() if line["message"] == "Tree published"]

    assert eventually("the swap to be logged", kinds) == ["patch"]


@each_format
def test_a_whole_bundle_of_an_older_server_is_followed(golden, tmp_path, run_once) -> None:
    with replayed(golden) as (url, replay):
        replay.number = DEPLOYS[-1]
        run_once(url)
        assert exchange(golden, f"then-{DEPLOYS[-1]}-whole").path in replay.asked
    live, (tree,) = shape(tmp_path / "volume")
    assert live == version(golden, DEPLOYS[-1])
    newest = shape(unpack_volume(golden, tmp_path / "then"))[1][-1]
    assert tree.manifest == newest.manifest
    assert {path: file[:2] for path, file in tree.files.items()} == {
        path: file[:2] for path, file in newest.files.items()
    }


def test_an_older_server_s_deploys_make_the_volume_that_they_made_then(tmp_path, run_once) -> None:
    with replayed(WRITTEN) as (url, replay):
        for number in DEPLOYS:
            replay.number = number
            run_once(url)
        for number in DEPLOYS[1:]:
            assert exchange(WRITTEN, f"then-{number}-patch").path in replay.asked
    assert shape(tmp_path / "volume") == shape(unpack_volume(WRITTEN, tmp_path / "then"))
