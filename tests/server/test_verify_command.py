"""``dagferry-server verify``: what is sound passes, whatever is damaged is named, and nothing is changed."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from dagferry_core.deploylog import entry_sha256
from dagferry_core.errors import SetupError
from dagferry_server.commands import main
from dagferry_server.deploys.verify import Verification
from dagferry_server.store.local import LocalStore
from harness import Server, tree
from rewriting import rewrite
from running import A, B, Running

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent.parent / "golden" / "format1" / "data"
C = {**A, "shop.py": b"rate = 3\n", "large": os.urandom(3_000_000)}
SUMMARY = "default: 3 entries, 2 of them chained; 3 bundles, 0 no longer stored; "


@pytest.fixture(scope="module")
def deployed(tmp_path_factory) -> Path:
    """The data folder of a server that has ended, with three deploys."""
    server = Server(tmp_path_factory.mktemp("deployed") / "data").ready()
    for files in (A, B, C):
        server.deploy(files)
    server.stop()
    return server.data


@pytest.fixture
def data(tmp_path, deployed) -> Path:
    return shutil.copytree(deployed, tmp_path / "data")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.deploys.verify.SECOND_LOOK_SECONDS", 0)


def run(data: Path, capsys, *more: str) -> tuple[int, list[str]]:
    code = main(["verify", "--data-dir", str(data), *more], {})
    return code, capsys.readouterr().out.splitlines()


def entry(data: Path, sequence: int) -> Path:
    return data / f"default/deploys/{sequence:012d}.json"


def details(data: Path, sequence: int) -> Path:
    return next((data / "default/deploys").glob(f"{sequence:012d}.*.details"))


def bundle(data: Path, sequence: int, suffix: str = "tar.zst") -> Path:
    digest = json.loads(entry(data, sequence).read_text())["digest"]
    return data / f"default/bundles/{digest.removeprefix('sha256:')}.{suffix}"


def edit(path: Path, before: bytes, after: bytes) -> None:
    content = path.read_bytes()
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_an_intact_log_passes_and_stays_as_it_is(data, capsys) -> None:
    before = tree(data)
    assert run(data, capsys) == (0, [SUMMARY + "0 problems"])
    assert tree(data) == before


def test_a_log_of_format_1_passes(tmp_path, capsys) -> None:
    shutil.copytree(GOLDEN, tmp_path / "data")
    shown = ["prod: 4 entries, 0 of them chained; 3 bundles, 0 no longer stored; 0 problems"]
    assert run(tmp_path / "data", capsys) == (0, shown)


DAMAGE = {
    "an entry is cut": (lambda data: entry(data, 1).write_bytes(b"{"), ["entry 1 is damaged", "entry 2 does not fit"]),
    "an entry is edited": (lambda data: edit(entry(data, 2), b"anonymous", b"anonymouS"), ["entry 3 does not fit"]),
    "the newest entry is damaged": (lambda data: flip(entry(data, 3), 2), ["entry 3 is damaged"]),
    "an entry is lost": (lambda data: entry(data, 2).unlink(), ["entry 2 is missing"]),
    "entries are lost": (lambda data: entry(data, 3).rename(entry(data, 9)), ["entries 3 to 8 are missing", "entry 9"]),
    "the chain is taken off": (
        lambda data: edit(entry(data, 2), b'"previous"', b'"Previous"'), ["entry 2 does not fit", "entry 3 does not"],
    ),
    "a time runs backwards": (
        lambda data: edit(entry(data, 3), b'"time":1', b'"time":'), ["entry 3 has a time or version"],
    ),
    "details are edited": (lambda data: flip(details(data, 2), 20), ["entry 2, its details is damaged"]),
    "details are lost": (lambda data: details(data, 2).unlink(), ["entry 2, its details is damaged"]),
    "a bundle is cut": (lambda data: os.truncate(bundle(data, 2), 200), ["bundle sha256:"]),
    "a bundle is scrambled at its end": (lambda data: flip(bundle(data, 3), -5), ["bundle sha256:"]),
    "an index is scrambled": (lambda data: flip(bundle(data, 1, "index"), 30), ["bundle sha256:"]),
    "a bundle has another's name": (lambda data: shutil.copy(bundle(data, 1), bundle(data, 2)), ["bundle sha256:"]),
    "the current bundle is lost": (lambda data: bundle(data, 3).unlink(), ["of the newest deploy, is missing"]),
    "the log id is damaged": (lambda data: (data / "default/log.json").write_text("{}"), ["the log id is damaged"]),
    "the log id is lost": (lambda data: (data / "default/log.json").unlink(), ["the log id is damaged"]),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_whatever_is_damaged_is_named_and_exit_code_6(data, capsys, what) -> None:
    harm, words = DAMAGE[what]
    harm(data)
    before = tree(data)
    code, lines = run(data, capsys)
    assert code == 6
    assert len(lines) == len(words) + 1, lines
    for line, expected in zip(lines, words, strict=False):
        assert line.startswith("default: ")
        assert expected in line
    assert lines[-1].endswith(f"; {len(words)} problem{'s' * (len(words) > 1)}")
    assert tree(data) == before


def test_the_newest_entry_is_vouched_for_by_nobody_yet(data, capsys) -> None:
    edit(entry(data, 3), b"anonymous", b"anonymouS")
    assert run(data, capsys)[0] == 0


def known(data: Path, sequence: int) -> str:
    return f"{sequence}:{entry_sha256(entry(data, sequence).read_bytes())}"


def test_a_chain_that_was_made_again_is_noticed_by_an_entry_that_is_known(data, capsys) -> None:
    newest = known(data, 3)
    assert run(data, capsys, "--entry", newest)[0] == 0
    rewrite(data, 2, description="It was not me")
    assert run(data, capsys)[0] == 0, "the chain fits"
    code, lines = run(data, capsys, "--entry", newest)
    was, now = newest.partition(":")[2], known(data, 3).partition(":")[2]
    assert code == 6
    assert lines[0] == f"default: entry 3 was rewritten, or one before it: its sha256 was {was} and now is {now}"
    assert run(data, capsys, "--entry", known(data, 1))[0] == 0, "which was not"


def test_a_log_that_was_cut_is_noticed_by_an_entry_that_is_known(data, capsys) -> None:
    newest = known(data, 3)
    entry(data, 3).unlink()
    assert run(data, capsys)[0] == 0
    code, lines = run(data, capsys, "--entry", newest)
    assert (code, lines[0]) == (6, "default: entry 3 was cut off: the log ends with entry 2")


def test_an_entry_is_of_one_log(data, capsys) -> None:
    shutil.copytree(data / "default", data / "other")
    assert run(data, capsys, "--entry", known(data, 3), "--deployments", "other")[0] == 0
    with pytest.raises(SetupError, match="--entry is of one log"):
        run(data, capsys, "--entry", known(data, 3))
    with pytest.raises(SetupError, match="it is not SEQUENCE:SHA256"):
        run(data, capsys, "--entry", "3")


def test_a_bundle_that_retention_removed_is_no_problem(data, capsys) -> None:
    for suffix in ("tar.zst", "index"):
        bundle(data, 1, suffix).unlink()
    code, lines = run(data, capsys)
    assert (code, lines) == (0, ["default: 3 entries, 2 of them chained; 2 bundles, 1 no longer stored; 0 problems"])


def without_bundles(server: Server, name: str) -> Path:
    """End the server, and delete the bundles of a deployment, as retention does sooner or later."""
    server.stop()
    shutil.rmtree(server.data / name / "bundles")
    (server.data / name / "bundles").mkdir()
    return server.data


def change(server: Server, method: str) -> None:
    assert server.request("/-/deployments/preview-1", method=method)[0] == 200


@pytest.mark.parametrize("after", [["DELETE"], ["DELETE", "POST"]])
def test_the_bundles_of_a_deleted_deployment_are_not_missing(serve, capsys, after) -> None:
    server = serve()
    change(server, "POST")
    server.deploy(A, "preview-1")
    for method in after:
        change(server, method)
    code, found = run(without_bundles(server, "preview-1"), capsys)
    assert code == 0, found
    assert "preview-1: 1 entries, 0 of them chained; 0 bundles, 1 no longer stored; 0 problems" in found


def test_that_of_a_deploy_after_a_deployment_was_created_again_is(serve, capsys) -> None:
    server = serve()
    for method in ("POST", "DELETE", "POST"):
        change(server, method)
    server.deploy(A, "preview-1")
    code, found = run(without_bundles(server, "preview-1"), capsys)
    assert code == 6
    assert [line for line in found if line.endswith("of the newest deploy, is missing")]


def test_what_cannot_be_read_is_exit_code_5_and_not_called_damaged(data, capsys, monkeypatch) -> None:
    real = LocalStore._read

    def fail(store: LocalStore, deployment: str, sequence: int) -> bytes:
        if sequence == 2:
            raise PermissionError(13, "Permission denied")
        return real(store, deployment, sequence)

    monkeypatch.setattr(LocalStore, "_read", fail)
    code, lines = run(data, capsys)
    assert code == 5
    assert "entry 2 cannot be read: Reading deploy 2 of default failed: Permission denied" in lines[0]
    assert lines[-1].endswith("1 problem")


def test_it_runs_next_to_a_server(serve, capsys) -> None:
    server = serve()
    for files in (A, B, C):
        server.deploy(files)
    assert run(server.data, capsys) == (0, [SUMMARY + "0 problems"])
    assert server.deploy(A)["sequence"] == 4


async def test_what_a_server_does_meanwhile_is_no_problem(start, monkeypatch, tmp_path) -> None:
    """Between the look at the entries and the one at the bundles, a deploy comes and retention takes the one before."""
    server: Running = await start(
        "--keep-deploys", "1", "--keep-days", "0", clock=iter(range(10**9, 2 * 10**9, 10**6)).__next__
    )
    await server.deploy(A)
    verification = Verification(LocalStore(str(tmp_path / "data")), "default")
    real = verification._list_bundles
    loop = asyncio.get_running_loop()

    async def deploy() -> None:
        await server.deploy(B)
        await server.service.close()

    def later() -> list[str]:
        asyncio.run_coroutine_threadsafe(deploy(), loop).result(30)
        return real()

    monkeypatch.setattr(verification, "_list_bundles", later)
    assert await asyncio.to_thread(lambda: list(verification.problems())) == []
    assert verification.result.gone == 1


def test_several_deployments_are_all_checked_unless_some_are_named(serve, capsys) -> None:
    server = serve("--deployments", "prod,staging")
    server.deploy(A, "prod")
    server.stop()
    (server.data / "prod/deploys/000000000001.json").write_bytes(b"")
    code, lines = run(server.data, capsys)
    assert (code, len(lines)) == (6, 3)
    assert lines[-1] == "staging: 0 entries, 0 of them chained; 0 bundles, 0 no longer stored; 0 problems"
    assert run(server.data, capsys, "--deployments", "staging") == (0, lines[-1:])


def test_the_chain_goes_on_over_a_restart(data, capsys, serve) -> None:
    server = serve()
    server.deploy(A)
    server.stop()
    code, lines = run(data, capsys)
    assert (code, lines) == (0, ["default: 4 entries, 3 of them chained; 3 bundles, 0 no longer stored; 0 problems"])
