"""A data folder that an older server left is served as it is, and goes on: see tests/golden/README.md."""

import calendar
import gzip
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import goldens
from dagferry_core.deploylog import decode, entry_sha256
from dagferry_server.commands import main
from goldens import DEPLOYMENT, DEPLOYS, SHARED, WRITTEN, Exchange, copy_data, each_format, exchange, of_deploys
from harness import tree
from running import A, Answer, B, Running

GOLDEN = Path(__file__).parent.parent / "golden" / "format1"
BOTH = ("--deployments", f"{DEPLOYMENT},staging")
RANDOM = frozenset({"log_id", "nonce", "previous", "details_sha256"})
"""Fields of answers that are random, or hashes of what is."""


@pytest.fixture
def data(tmp_path) -> Path:
    shutil.copytree(GOLDEN / "data", tmp_path / "data")
    return tmp_path / "data"


async def test_what_was_deployed_to_an_older_server_is_all_there(start, data) -> None:
    server = await start("--deployments", "prod")
    before = json.loads((GOLDEN / "current.json").read_text())
    now = (await server.get("/prod/dags/current")).json
    assert {name: now[name] for name in before} == before
    log = (await server.get("/prod/dags/deploys")).json["deploys"]
    assert [deploy["sequence"] for deploy in log] == [4, 3, 2, 1]
    for deploy in log:
        assert (await server.get(f"/prod/dags/versions/{deploy['version']}")).status == 200
        assert (await server.get(f"/prod/dags/deploys/{deploy['version']}")).json == {**deploy, "details": None}
    assert (await server.deploy(A, "prod"))["unchanged"] is True
    assert (await server.get("/metrics")).body.count(b'unreadable_deploys{deployment="prod"} 0.0') == 1


async def test_the_next_deploy_continues_an_older_log_and_leaves_it_as_it_is(start, data) -> None:
    server = await start("--deployments", "prod")
    told = await server.deploy(B, "prod")
    assert (told["sequence"], told["changed"]) == (5, 1)
    deploys = data / "prod" / "deploys"
    entry = json.loads((deploys / "000000000005.json").read_bytes())
    assert entry["previous"] == entry_sha256((deploys / "000000000004.json").read_bytes())
    now, before = tree(data / "prod"), tree(GOLDEN / "data" / "prod")
    assert {path: now[path] for path in before} == before


# --- format 2 and later ----------------------------------------------------------------------------------------------


async def repeat(server: Running, was: Exchange) -> Answer:
    """Send a request of then."""
    if was.upload and not was.sent:
        return await server.upload(was.upload, was.path)
    return await server.call(
        was.method, was.path, headers=was.sent, data=io.BytesIO(was.upload) if was.upload else None
    )


def body_of(answer: Answer) -> object:
    return answer.json if answer.headers.get("Content-Type") == "application/json" else answer.body


@each_format
async def test_a_server_on_an_older_folder_answers_as_that_server_did(start, tmp_path, golden) -> None:
    data = copy_data(golden, tmp_path / "data")
    server = await start(*goldens.arguments(golden))
    names = goldens.answered_alike(golden)
    assert {"current", "current-none", "current-seen", "deploys", "deploy-first", "then-1-whole", "refused"} < {*names}
    for name in names:
        was = exchange(golden, name)
        now = await repeat(server, was)
        headers = goldens.compared(was.headers)
        if name == "shared-status":
            del headers["etag"]  # it is about the server's memory, too
        assert (name, now.status) == (name, was.status)
        assert {**goldens.compared(now.headers), **headers} == goldens.compared(now.headers), name
        if name == "download":
            assert gzip.decompress(now.body) == gzip.decompress(was.body)
        elif name in {"refused", "not-found", "shared-status"}:
            assert goldens.holds(goldens.wordless(now.json), goldens.wordless(was.body)), name
        else:
            assert goldens.holds(body_of(now), goldens.renamed(was.body)), name
    before, after = tree(golden / "data"), tree(data)
    assert {path: after[path] for path in before} == before
    assert await server.metric(f'unreadable_deploys{{deployment="{DEPLOYMENT}"}}') == 0


@each_format
async def test_a_server_on_an_older_folder_makes_its_patches_and_knows_its_content(start, tmp_path, golden) -> None:
    copy_data(golden, tmp_path / "data")
    server = await start(*goldens.arguments(golden))
    *_, last = of_deploys(golden, "upload")
    assert (await repeat(server, last)).json["unchanged"] is True
    for number in DEPLOYS[1:]:
        was = exchange(golden, f"then-{number}-patch")
        now = await repeat(server, was)
        assert goldens.compared(now.headers) == goldens.compared(was.headers)


@each_format
async def test_the_next_deploy_continues_the_chain(start, tmp_path, golden) -> None:
    data = copy_data(golden, tmp_path / "data")
    server = await start(*goldens.arguments(golden))
    first, *_ = of_deploys(golden, "upload")
    told = (await repeat(server, first)).json
    assert (told["sequence"], told["digest"]) == (len(DEPLOYS) + 1, first.body["digest"])
    deploys = data / DEPLOYMENT / "deploys"
    newest, before = (deploys / f"{sequence:012d}.json" for sequence in (told["sequence"], DEPLOYS[-1]))
    assert decode(newest.read_bytes(), told["sequence"]).previous == entry_sha256(before.read_bytes())
    now, then = tree(data), tree(golden / "data")
    assert {path: now[path] for path in then} == then


@each_format
def test_an_older_folder_passes_verify(tmp_path, capsys, golden) -> None:
    data = copy_data(golden, tmp_path / "data")
    assert main(["verify", "--data-dir", str(data)], {}) == 0
    assert "prod: 4 entries, 3 of them chained; 4 bundles, " in capsys.readouterr().out


@goldens.each_shared
async def test_state_of_then_still_counts(start, tmp_path, golden) -> None:
    copy_data(golden, tmp_path / "data")
    server = await start(*goldens.arguments(golden))
    told = {row["name"]: row for row in (await server.get("/-/deployments")).json["deployments"]}
    assert told["preview"]["created_by"] == "anonymous"
    assert "gone" not in told
    assert told[SHARED]["frozen"]["reason"] == "the release, «v2»"
    frozen = dict(goldens.of_shared(golden))["shared-20-frozen"]
    assert (await repeat(server, frozen)).json["code"] == "deployment_frozen"


async def test_the_same_uploads_are_answered_and_stored_alike(start, tmp_path) -> None:
    data = tmp_path / "data"
    uploads, currents = of_deploys(WRITTEN, "upload"), of_deploys(WRITTEN, "current")
    now = [0.0]
    server = await start(*goldens.arguments(WRITTEN), clock=lambda: now[0])
    random = {"log_id": json.loads((data / DEPLOYMENT / "log.json").read_text())["log_id"]}
    for number, was, current in zip(DEPLOYS, uploads, currents, strict=True):
        now[0] = current.body["time"]
        told = await repeat(server, was)
        assert goldens.compared(told.headers) == goldens.compared(was.headers)
        assert goldens.holds(goldens.wordless(told.json), goldens.wordless(goldens.renamed(was.body)))
        for what in ("current", "whole", "patch")[: 2 if number == DEPLOYS[0] else 3]:
            then = exchange(WRITTEN, f"then-{number}-{what}")
            answer = await repeat(server, then)
            assert goldens.compared(answer.headers) == goldens.compared(then.headers)
            if what == "current":
                own = {"entry_sha256": answer.json["entry_sha256"]}  # of an entry with another nonce
                assert answer.json == {**goldens.renamed(then.body), **random, **own}
            elif goldens.same_library(WRITTEN):
                assert answer.body == then.body
    for name, was in goldens.of_shared(WRITTEN):
        now[0] = max(now[0], moment_of(was))
        told = await repeat(server, was)
        assert (name, told.status) == (name, was.status)
        assert goldens.compared(told.headers) == goldens.compared(was.headers)
        bodies = (told.json, goldens.renamed(was.body))
        assert goldens.holds(*(goldens.wordless(without_random(body)) for body in bodies)), name
    await server.close()
    check_stored(data)


def moment_of(was: Exchange) -> float:
    """Return when an answer's version was made, in seconds since the epoch; 0 if it has none."""
    version = was.body.get("version", "")
    return calendar.timegm(time.strptime(version.partition("-")[0], "%Y%m%dT%H%M%SZ")) if version else 0


def without_random(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in RANDOM}


def check_stored(data: Path) -> None:
    """Compare a data folder with the golden one, but for what is random or a sentence."""
    assert goldens.listing(data) == (WRITTEN / "data.txt").read_text().splitlines()
    for path, then in tree(WRITTEN / "data").items():
        if path.endswith((".tar.zst", ".index")):
            assert goldens.same_compressed(WRITTEN, then, (data / path).read_bytes()), path
        if path.endswith(".state"):
            assert {**json.loads((data / path).read_bytes()), "time": 0} == {**json.loads(then), "time": 0}, path
    for name in (DEPLOYMENT, SHARED):
        check_log(data, name)


def check_log(data: Path, name: str) -> None:
    log, then_log = (folder / name / "log.json" for folder in (data, WRITTEN / "data"))
    ids = [json.loads(path.read_text())["log_id"] for path in (log, then_log)]
    assert log.read_text().replace(*ids) == then_log.read_text()
    deploys, then_deploys = data / name / "deploys", WRITTEN / "data" / name / "deploys"
    previous = ""
    for number in range(1, len([*then_deploys.glob("*.json")]) + 1):
        entry, was = ((folder / f"{number:012d}.json").read_bytes() for folder in (deploys, then_deploys))
        beside, lists = (
            next(folder.glob(f"{number:012d}.*.details")).read_bytes() for folder in (deploys, then_deploys)
        )
        assert goldens.wordless(json.loads(beside)) == goldens.wordless(json.loads(lists))
        made, kept = decode(entry, number), decode(was, number)
        assert made.previous == previous
        # The nonce is random, what follows from it is another hash; the details have a sentence in them.
        same = made._replace(nonce=kept.nonce, previous=kept.previous, details=kept.details)
        assert same.encode() == was
        previous = entry_sha256(entry)
