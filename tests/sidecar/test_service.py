"""A real sidecar and a server that misbehaves: what was published stays, probes tell the truth, the next cycle heals.

What docs/concepts.md promises, one test each.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import OTHER_USER, Sidecar, eventually, others_can_run_python, tree

A = {"dag.py": b"import team.helper\n", "other.py": b"import os\n", "team/helper.py": b"rate = 1\n" * 200}
B = {**A, "team/helper.py": b"rate = 2\n" * 200}
C = {**B, "new.py": b"pass\n"}


@pytest.fixture
def pod(fake, follow):
    """Start a sidecar that follows the fake server; it asks at least every second."""

    def start(*flags: str, **options: object) -> Sidecar:
        return follow(fake.url, "pod", "--poll-wait", "1", *flags, **options)

    return start


def ended(sidecar: Sidecar) -> int:
    return sidecar.process.wait(30)


def lines(sidecar: Sidecar, message: str) -> list[dict[str, object]]:
    return [line for line in sidecar.logged() if line["message"] == message]


def outcome(sidecar: Sidecar, code: str) -> float:
    try:
        return sidecar.metric(f'dagferry_sidecar_syncs_total{{outcome="{code}"}}')
    except OSError:  # it does not listen yet
        return 0.0


def ready(sidecar: Sidecar) -> dict[str, object]:
    """What /readyz says, once it answers at all."""

    def ask() -> dict[str, object] | None:
        try:
            return json.loads(sidecar.probe("/readyz")[1])
        except OSError:
            return None

    return eventually("an answer of /readyz", ask)


def holds(root: Path, files: dict[str, bytes]) -> bool:
    """Whether this is what is live; it may change while it is read."""
    try:
        return tree(root / "current") == files
    except OSError:
        return False


def leftovers(root: Path) -> set[str]:
    """What is in the trees' folder and is neither live nor a tree that was."""
    live = os.readlink(root / "current").split("/")[1] if (root / "current").is_symlink() else ""
    return {
        path.name
        for path in (root / ".trees").iterdir()
        if path.name not in {"lock", live} and not (path / "ended").exists()
    }


def cut_at(fake, after: int):
    """Break off every bundle after so many bytes."""

    def meddle(kind: str, handler) -> bool:
        if kind == "current":
            return False
        content_type = "application/zstd" if kind == "whole" else "application/vnd.dagferry.patch"
        fake.cut(handler, fake.deploys[-1][1].body, after, content_type)
        return True

    return meddle


def promise_whole(fake, handler) -> bytes:
    """Send the headers of the newest bundle, and return the body that they promise."""
    body: bytes = fake.deploys[-1][1].body
    handler.send_response(200)
    handler.send_header("Content-Type", "application/zstd")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    return body


def stall(fake, over: threading.Event):
    """Send half of every whole bundle and then nothing."""

    def meddle(kind: str, handler) -> bool:
        if kind != "whole":
            return False
        body = promise_whole(fake, handler)
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        over.set()
        threading.Event().wait(30)
        return True

    return meddle


# --- following -------------------------------------------------------------------------------------------------------


def test_each_deploy_goes_live_and_its_log_line_says_all_of_it(fake, pod) -> None:
    sidecar = pod("--instance", "pod-7")
    for files in (A, B, C):
        version = fake.deploy(files)
        sidecar.runs(version)
        assert sidecar.tree() == files
    line = eventually("the log", lambda: lines(sidecar, "Tree published")[2:])[0]
    assert line.items() >= {
        "deployment": "default", "version": version, "sequence": 3, "digest": fake.deploys[-1][0]["digest"],
        "instance": "pod-7", "kind": "patch",
    }.items()  # fmt: skip
    assert line["bytes"] > 0
    assert line["milliseconds"] > 0


def test_the_start_says_every_limit(fake, pod) -> None:
    sidecar = pod()
    line = eventually("the log", lambda: lines(sidecar, "Sidecar started"))[0]
    assert {"poll_wait", "poll_interval", "keep_trees", "keep_hours", "max_tree_bytes", "server", "root"} <= set(line)
    assert line["max_tree_bytes"] > 0


def test_readiness_and_metrics_follow(fake, pod) -> None:
    sidecar = pod()
    assert ready(sidecar)["ready"] is False
    version = fake.deploy(A)
    sidecar.runs(version)
    eventually("readiness", lambda: ready(sidecar)["version"] == version)
    assert ready(sidecar)["error"] is None
    assert sidecar.metric("dagferry_sidecar_published") == 1
    eventually("the metric", lambda: sidecar.metric("dagferry_sidecar_live_sequence") == 1)
    assert sidecar.metric("dagferry_sidecar_last_contact_timestamp_seconds") > 1e9
    assert sidecar.metric('dagferry_sidecar_download_bytes_total{kind="whole"}') == len(fake.deploys[0][1].body)
    assert sidecar.probe("/healthz")[0] == 200


def test_plain_polling_works(fake, pod) -> None:
    sidecar = pod("--poll-wait", "0")
    for files in (A, B):
        sidecar.runs(fake.deploy(files))
    assert all("Prefer" not in headers for _, headers in fake.requests)


def test_a_server_that_never_waits_is_polled_and_not_hammered(fake, pod) -> None:
    fake.waits = False
    version = fake.deploy(A)
    sidecar = pod("--poll-interval", "0.5").runs(version)
    before = len(fake.requests)
    sidecar.runs(fake.deploy(B))
    assert len(fake.requests) - before < 10


def test_changed_files_have_a_new_mtime_and_the_others_keep_theirs(fake, pod, tmp_path) -> None:
    current = tmp_path / "pod" / "current"
    sidecar = pod().runs(fake.deploy(A))
    before = {path: (current / path).stat() for path in A}
    sidecar.runs(fake.deploy(B))
    after = {path: (current / path).stat() for path in A}
    changed = {path for path in A if after[path].st_mtime_ns != before[path].st_mtime_ns}
    assert changed == {"dag.py", "team/helper.py"}
    assert {path for path in A if after[path].st_ino != before[path].st_ino} == changed
    assert all(int(after[path].st_mtime) > int(before[path].st_mtime) for path in changed)


# --- nothing deployed ------------------------------------------------------------------------------------------------


def test_before_the_first_deploy_nothing_is_published_and_the_pod_is_not_ready(fake, pod, tmp_path) -> None:
    sidecar = pod("--poll-wait", "30")
    eventually("the reason", lambda: (ready(sidecar)["error"] or {}).get("code") == "awaiting_first_deploy")
    assert sidecar.probe("/readyz")[0] == 503
    assert "--when-empty" in ready(sidecar)["error"]["hint"]
    assert not (tmp_path / "pod" / "current").is_symlink()
    sidecar.runs(fake.deploy(A))
    eventually("readiness", lambda: ready(sidecar)["ready"] and ready(sidecar)["error"] is None)


def test_an_empty_tree_is_published_until_something_is_deployed_if_that_is_wanted(fake, pod) -> None:
    sidecar = pod("--when-empty", "empty").runs("empty")
    assert sidecar.tree() == {}
    eventually("readiness", lambda: ready(sidecar)["ready"])
    sidecar.runs(fake.deploy(A))


def test_the_seed_is_published_until_something_is_deployed(fake, pod, tmp_path) -> None:
    seed = tmp_path / "image"
    seed.mkdir()
    (seed / "builtin.py").write_bytes(b"pass\n")
    sidecar = pod("--when-empty", "seed", "--seed", str(seed)).runs("seed")
    assert sidecar.tree() == {"builtin.py": b"pass\n"}
    sidecar.runs(fake.deploy(A))
    assert sidecar.tree() == A


def test_no_seed_is_published_while_the_server_is_away(fake, pod, tmp_path) -> None:
    fake.stop()
    sidecar = pod("--when-empty", "empty")
    eventually("a failure", lambda: outcome(sidecar, "server_unreachable") >= 1)
    assert not (tmp_path / "pod" / "current").is_symlink()
    assert ready(sidecar) == {
        "ready": False, "version": None, "seconds_since_contact": None,
        "error": {**ready(sidecar)["error"], "code": "server_unreachable"},
    }  # fmt: skip
    fake.start()
    sidecar.runs("empty")


# --- the server and the network --------------------------------------------------------------------------------------


def test_a_server_that_is_away_at_start_and_later_costs_nothing_that_was_published(fake, pod) -> None:
    version = fake.deploy(A)
    pod().runs(version).stop()
    fake.stop()
    sidecar = pod()
    eventually("readiness without a server", lambda: ready(sidecar)["ready"])
    assert sidecar.tree() == A
    eventually("the error", lambda: (ready(sidecar)["error"] or {}).get("code") == "server_unreachable")
    fake.start()
    sidecar.runs(fake.deploy(B))
    eventually("no error", lambda: ready(sidecar)["error"] is None)
    fake.stop()
    eventually("the error again", lambda: (ready(sidecar)["error"] or {}).get("code") == "server_unreachable")
    assert ready(sidecar)["ready"] is True
    assert len(lines(sidecar, "Recovered")) == 1


def test_waits_that_are_cut_are_no_errors_and_become_shorter(fake, pod) -> None:
    def cut_waits(kind: str, handler) -> bool:
        wait = int(handler.headers.get("Prefer", "wait=0").removeprefix("wait="))
        if kind != "current" or wait <= 2:
            return False
        time.sleep(3)
        handler.connection.shutdown(2)
        handler.close_connection = True
        return True

    fake.meddle = cut_waits
    sidecar = pod("--poll-wait", "30").runs(fake.deploy(A))
    eventually("a shorter wait", lambda: any(headers.get("Prefer") == "wait=2" for _, headers in fake.requests))
    assert outcome(sidecar, "server_unreachable") == 0
    assert ready(sidecar)["error"] is None
    [line] = [line for line in sidecar.logged() if line["level"] != "info"]
    assert line["message"] == "Long polls are cut off on the way. For an hour they are limited to 2 s."
    assert "--poll-wait" in line["hint"]
    sidecar.runs(fake.deploy(B))


@pytest.mark.parametrize("after", [0, 40, 150])
def test_a_cut_download_changes_nothing_and_the_next_one_heals(fake, pod, tmp_path, after) -> None:
    sidecar = pod().runs(fake.deploy(A))
    fake.meddle = cut_at(fake, after)
    version = fake.deploy(C)
    eventually("failures", lambda: outcome(sidecar, "server_unreachable") >= 2)
    assert sidecar.tree() == A
    assert leftovers(tmp_path / "pod") == set()
    assert ready(sidecar)["ready"] is True
    fake.meddle = lambda _kind, _handler: False
    sidecar.runs(version)
    assert sidecar.tree() == C


def test_a_patch_that_does_not_fit_is_followed_by_the_whole_bundle(fake, pod) -> None:
    sidecar = pod().runs(fake.deploy(A))
    wrong = fake.deploys[0][1].patch_from  # of the first to itself: leads elsewhere
    fake.corrupt = lambda kind, body: wrong(fake.deploys[0][1]) or b"" if kind == "patch" else body
    sidecar.runs(fake.deploy(B))
    assert sidecar.tree() == B
    assert sidecar.metric('dagferry_sidecar_download_bytes_total{kind="whole"}') > 0


@pytest.mark.parametrize("harm", ["another bundle", "flipped bits", "not a bundle"])
def test_a_download_that_is_not_what_was_announced_is_not_published_nor_tried_in_a_hot_loop(
    fake, pod, tmp_path, harm
) -> None:
    sidecar = pod("--poll-interval", "0.3").runs(fake.deploy(A))
    bad = {
        "another bundle": lambda _: fake.deploys[0][1].body,
        "flipped bits": lambda body: body[:60] + bytes([body[60] ^ 0x55]) + body[61:],
        "not a bundle": lambda _: b"<html>" * 100,
    }[harm]
    fake.corrupt = lambda _kind, body: bad(body)
    refused = fake.deploy(B)
    codes = ("digest_mismatch", "answer_invalid", "patch_mismatch")
    eventually("failures", lambda: sum(outcome(sidecar, code) for code in codes) >= 3)
    assert sidecar.tree() == A
    assert leftovers(tmp_path / "pod") == set()
    assert ready(sidecar)["ready"] is True
    assert ready(sidecar)["error"]["code"] in codes
    told = [headers["Dagferry-Error"] for _, headers in fake.requests if "Dagferry-Error" in headers]
    eventually("the server to be told", lambda: told or [h for _, h in fake.requests if "Dagferry-Error" in h])
    assert fake.asked(f"/versions/{refused}") < 20
    fake.corrupt = lambda _kind, body: body
    sidecar.runs(refused)
    assert sidecar.tree() == B


def test_a_newer_deploy_is_taken_at_once_though_the_one_before_failed(fake, pod) -> None:
    sidecar = pod("--poll-interval", "60").runs(fake.deploy(A))
    fake.corrupt = lambda _kind, _body: b"bad"
    fake.deploy(B)
    eventually("a failure", lambda: outcome(sidecar, "answer_invalid") + outcome(sidecar, "digest_mismatch") >= 1)
    fake.corrupt = lambda _kind, body: body
    sidecar.runs(fake.deploy(C))


def test_an_older_sequence_is_not_taken(fake, pod) -> None:
    fake.deploy(A)
    sidecar = pod().runs(fake.deploy(B))
    fake.forget("log-1", keep=1)
    eventually("the refusal", lambda: outcome(sidecar, "sequence_regressed") >= 1)
    assert sidecar.tree() == B
    assert ready(sidecar)["error"]["code"] == "sequence_regressed"


def test_a_store_that_was_lost_leaves_the_tree_alone_and_one_with_deploys_is_followed(fake, pod) -> None:
    fake.deploy(A)
    sidecar = pod().runs(fake.deploy(B))
    fake.forget("log-2")
    eventually("the warning", lambda: any("another log id" in line["message"] for line in sidecar.logged()))
    assert sidecar.tree() == B
    sidecar.runs(fake.deploy(A))
    assert sidecar.tree() == A


# --- the volume ------------------------------------------------------------------------------------------------------


HARMS = {
    "a file rewritten": lambda root: (root / "current/other.py").write_bytes(b"import evil\n"),
    "a file removed": lambda root: (root / "current/team/helper.py").unlink(),
    "a folder removed": lambda root: shutil.rmtree((root / "current").resolve() / "team"),
    "the tree removed": lambda root: shutil.rmtree((root / "current").resolve()),
    "a file added": lambda root: (root / "current/extra.py").write_bytes(b""),
    "the link removed": lambda root: (root / "current").unlink(),
    "the link made a file": lambda root: [(root / "current").unlink(), (root / "current").write_text("")],
    "the link made another": lambda root: [(root / "current").unlink(), (root / "current").symlink_to("/nowhere")],
    "the link made absolute": lambda root: [
        tree := (root / "current").resolve(),
        (root / "current").unlink(),
        (root / "current").symlink_to(tree),
    ],
    "the trees' folder removed": lambda root: shutil.rmtree(root / ".trees"),
    "the root removed": shutil.rmtree,
    "all removed": lambda root: [
        shutil.rmtree(root / ".trees" / name) for name in os.listdir(root / ".trees") if name != "lock"
    ],
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "while it was away"])
def test_a_damaged_tree_is_healed_by_the_next_cycle(fake, pod, tmp_path, harm, restarted) -> None:
    root = tmp_path / "pod"
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    if restarted:
        sidecar.stop()
    harm(root)
    if restarted:
        sidecar = pod()
    eventually("the tree to be whole", lambda: sidecar.live == version and holds(root, A))
    eventually("readiness", lambda: ready(sidecar)["ready"] and ready(sidecar)["error"] is None)
    sidecar.runs(fake.deploy(B))
    assert sidecar.tree() == B


NEEDS_NO_SERVER = [harm for harm in HARMS if harm == "a file added" or harm.startswith("the link")]


@pytest.mark.parametrize("harm", [HARMS[harm] for harm in NEEDS_NO_SERVER], ids=NEEDS_NO_SERVER)
@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "while it was away"])
def test_what_needs_no_server_is_healed_without_one(fake, pod, tmp_path, harm, restarted) -> None:
    root = tmp_path / "pod"
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    eventually("readiness", lambda: ready(sidecar)["ready"])
    if restarted:
        sidecar.stop()
    fake.stop()
    harm(root)
    if restarted:
        sidecar = pod()
    eventually("the tree to be whole", lambda: sidecar.live == version and holds(root, A))
    eventually("readiness", lambda: ready(sidecar)["ready"])


@pytest.mark.parametrize("harm", ["a file rewritten", "a file removed", "a folder removed"])
def test_torn_files_make_it_unready_without_a_server_too(fake, pod, tmp_path, harm) -> None:
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    eventually("readiness", lambda: ready(sidecar)["ready"])
    fake.stop()
    HARMS[harm](tmp_path / "pod")
    eventually("the finding", lambda: (ready(sidecar)["error"] or {}).get("code") == "tree_damaged")
    assert sidecar.probe("/readyz")[0] == 503
    assert sidecar.metric("dagferry_sidecar_published") == 0
    assert sidecar.live == version, "Airflow goes on with what there is"
    before = sidecar.cpu_seconds()
    attempts = outcome(sidecar, "server_unreachable")
    fake.start()
    eventually("readiness", lambda: ready(sidecar)["ready"])
    assert sidecar.tree() == A
    assert sidecar.cpu_seconds() - before < 1
    assert attempts < 20


def test_a_folder_in_the_place_of_the_link_is_said_with_what_to_do(fake, pod, tmp_path) -> None:
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    link = tmp_path / "pod" / "current"
    link.unlink()
    link.mkdir()
    eventually("the error", lambda: (ready(sidecar)["error"] or {}).get("code") == "root_unusable")
    error = ready(sidecar)["error"]
    assert error["message"] == f"{link} is a folder, not a symbolic link."
    assert error["hint"].startswith("Move it away")
    link.rmdir()
    eventually("readiness", lambda: ready(sidecar)["ready"])


def test_bytecode_in_the_live_tree_is_left_alone(fake, pod, tmp_path) -> None:
    version = fake.deploy(A)
    sidecar = pod().runs(version)
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path / "pod" / "current"], check=True)
    inode = (tmp_path / "pod" / "current").resolve()
    before = fake.asked("/current")
    eventually("two more cycles", lambda: fake.asked("/current") >= before + 3)
    assert (tmp_path / "pod" / "current").resolve() == inode
    assert outcome(sidecar, "tree_damaged") == 0


def test_a_tree_removed_by_a_hand_makes_it_unready_at_once_and_says_so(fake, pod, tmp_path) -> None:
    sidecar = pod("--poll-wait", "30").runs(fake.deploy(A))
    eventually("readiness", lambda: ready(sidecar)["ready"])
    shutil.rmtree((tmp_path / "pod" / "current").resolve())
    assert sidecar.probe("/readyz")[0] == 503
    assert sidecar.metric("dagferry_sidecar_published") == 0


def test_damage_found_at_start_keeps_it_unready_until_it_is_healed(fake, pod, tmp_path) -> None:
    version = fake.deploy(A)
    pod().runs(version).stop()
    (tmp_path / "pod" / "current" / "other.py").write_bytes(b"import e\n")
    fake.stop()
    sidecar = pod()
    eventually("the finding", lambda: outcome(sidecar, "tree_damaged") >= 1)
    assert sidecar.probe("/readyz")[0] == 503
    error = ready(sidecar)["error"]
    assert (error["code"], error["message"]) == ("tree_damaged", "Not as published: other.py.")
    fake.start()
    eventually("readiness", lambda: ready(sidecar)["ready"])
    assert sidecar.tree() == A


def test_a_volume_that_takes_no_more_keeps_the_tree_and_takes_the_deploy_when_it_can(fake, pod, tmp_path) -> None:
    sidecar = pod(wrapper=("prlimit", "--fsize=100000:200000")).runs(fake.deploy(A))
    big = {**A, "big.sql": os.urandom(150_000)}
    version = fake.deploy(big)
    eventually("failures", lambda: outcome(sidecar, "volume_failed") >= 2)
    error = ready(sidecar)["error"]
    assert error["code"] == "volume_failed"
    assert "big.sql" in error["message"]
    assert "File too large" in error["message"]
    assert sidecar.tree() == A
    assert leftovers(tmp_path / "pod") == set()
    subprocess.run(["prlimit", f"--pid={sidecar.process.pid}", "--fsize=200000"], check=True)
    sidecar.runs(version)
    assert sidecar.tree() == big


def test_a_tight_umask_makes_nothing_unreadable(fake, pod, tmp_path) -> None:
    pod(wrapper=("sh", "-c", 'umask 077; exec "$@"', "sh")).runs(fake.deploy(A))
    for path in [tmp_path / "pod", *(tmp_path / "pod").rglob("*")]:
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == (0o055 if path.is_dir() else 0o044), path


def test_foreign_files_in_the_root_are_left_alone(fake, pod, tmp_path) -> None:
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "notes.txt").write_text("mine")
    pod().runs(fake.deploy(A)).stop()
    assert (tmp_path / "pod" / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(not others_can_run_python(), reason="cannot play another user here")
def test_files_of_another_user_are_copied_instead_of_linked(fake, pod, tmp_path) -> None:
    pod().runs(fake.deploy(A)).stop()
    for path in [tmp_path / "pod", *(tmp_path / "pod").rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o777)
    (tmp_path / "pod" / ".trees" / "lock").chmod(0o666)
    for parent in [tmp_path, *list(tmp_path.parents)[:-1]]:
        parent.chmod(parent.stat().st_mode | 0o055)
    sidecar = pod(wrapper=OTHER_USER)
    before = (tmp_path / "pod" / "current" / "other.py").stat()
    sidecar.runs(fake.deploy(B))
    after = (tmp_path / "pod" / "current" / "other.py").stat()
    assert sidecar.tree() == B
    assert after.st_uid == 4321
    assert after.st_mtime_ns == before.st_mtime_ns


# --- ending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_a_goodbye(fake, pod, number) -> None:
    sidecar = pod("--poll-wait", "30", "--instance", "pod-7").runs(fake.deploy(A))
    eventually("the wait", lambda: any("Prefer" in headers for _, headers in fake.requests))
    sidecar.process.send_signal(number)
    assert ended(sidecar) == 0
    deregister = fake.requests[-1][1]
    assert (deregister["Dagferry-Deregister"], deregister["Dagferry-Instance"]) == ("1", "pod-7")


def test_a_signal_while_the_server_is_away_ends_it_too(fake, pod) -> None:
    sidecar = pod().runs(fake.deploy(A))
    fake.stop()
    eventually("a failure", lambda: outcome(sidecar, "server_unreachable") >= 1)
    sidecar.stop(0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)], ids=["SIGTERM", "SIGKILL"])
def test_an_end_in_the_middle_of_a_download_costs_nothing(fake, pod, tmp_path, number, code) -> None:
    over = threading.Event()
    fake.meddle = stall(fake, over)
    version = fake.deploy({**A, "big.sql": os.urandom(2_000_000)})
    sidecar = pod()
    over.wait(30)
    eventually("a tree in the making", lambda: list((tmp_path / "pod" / ".trees").glob("*/*/*")))
    sidecar.process.send_signal(number)
    assert ended(sidecar) == code
    if number == signal.SIGTERM:
        assert leftovers(tmp_path / "pod") == set()
    assert not (tmp_path / "pod" / "current").exists()
    fake.meddle = lambda _kind, _handler: False
    pod().runs(version)
    eventually("the sweep", lambda: leftovers(tmp_path / "pod") == set())


# --- once ------------------------------------------------------------------------------------------------------------


def test_once_publishes_and_ends(fake, pod) -> None:
    fake.deploy(A)
    sidecar = pod("--once")
    assert ended(sidecar) == 0
    assert sidecar.tree() == A
    assert ended(pod("--once")) == 0, "again, with nothing to do"
    fake.deploy(B)
    assert ended(pod("--once")) == 0
    assert sidecar.tree() == B
    asked = [headers for path, headers in fake.requests if path.endswith("/current")]
    assert all("Dagferry-Instance" not in headers for headers in asked), (
        "nobody waits for an init container to converge"
    )


def test_once_waits_for_the_first_deploy_and_says_what_it_waited_for_when_none_came(fake, pod, tmp_path) -> None:
    sidecar = pod("--once", "--once-timeout", "0.5")
    assert ended(sidecar) == 5
    assert not (tmp_path / "pod" / "current").is_symlink()
    [line] = [line for line in sidecar.logged() if line["level"] == "error"]
    assert line["message"].startswith("Nothing is deployed yet, so nothing is published. Gave up after 0.5 s")
    assert (line["code"], "--when-empty" in line["hint"]) == ("awaiting_first_deploy", True)
    waiting = pod("--once")
    eventually("a question", lambda: any(line.get("code") == "awaiting_first_deploy" for line in waiting.logged()))
    fake.deploy(A)
    assert ended(waiting) == 0
    assert waiting.tree() == A


def test_once_without_a_server_but_with_a_whole_tree_ends_well_with_a_warning(fake, pod) -> None:
    fake.deploy(A)
    assert ended(pod("--once")) == 0
    fake.stop()
    sidecar = pod("--once")
    assert ended(sidecar) == 0
    told = [line["message"] for line in sidecar.logged() if line["level"] == "warning"]
    assert any("does not answer" in message and "The live tree stays." in message for message in told)


def test_once_with_a_whole_tree_says_what_keeps_it_from_the_server(fake, pod) -> None:
    fake.deploy(A)
    assert ended(pod("--once")) == 0
    fake.meddle = lambda _kind, handler: fake.send(handler, 401, b'{"code":"token_unknown","message":"No."}') or True
    sidecar = pod("--once")
    assert ended(sidecar) == 0
    assert "The server answered 401: No. (token_unknown). The live tree stays." in [
        line["message"] for line in sidecar.logged()
    ]


def test_once_waits_no_longer_than_its_timeout_for_a_download_that_drips(fake, pod) -> None:
    fake.deploy(A)

    def drip(kind, handler) -> bool:
        if kind == "current":
            return False
        body = promise_whole(fake, handler)
        with contextlib.suppress(OSError):  # the sidecar has gone
            for byte in body:
                handler.wfile.write(bytes([byte]))
                if over.wait(0.1):
                    break
        return True

    over = threading.Event()
    fake.meddle = drip
    started = time.monotonic()
    assert ended(pod("--once", "--once-timeout", "1.5")) == 5
    assert time.monotonic() - started < 20
    over.set()


@pytest.mark.parametrize("has_tree", [True, False])
def test_once_waits_no_longer_than_its_timeout_for_a_server_that_says_nothing(fake, pod, has_tree) -> None:
    fake.deploy(A)
    if has_tree:
        assert ended(pod("--once")) == 0
    over = threading.Event()
    fake.meddle = lambda _kind, _handler: over.wait(30)
    started = time.monotonic()
    assert ended(pod("--once", "--once-timeout", "1.5")) == (0 if has_tree else 5)
    assert time.monotonic() - started < 10
    over.set()


def test_once_without_a_server_and_without_a_tree_ends_with_the_errors_code_after_its_timeout(fake, pod) -> None:
    fake.stop()
    assert ended(pod("--once", "--once-timeout", "0.5")) == 5


def test_once_with_a_torn_tree_and_without_a_server_does_not_pretend(fake, pod, tmp_path) -> None:
    fake.deploy(A)
    assert ended(pod("--once")) == 0
    (tmp_path / "pod" / "current" / "other.py").write_bytes(b"import e\n")
    fake.stop()
    assert ended(pod("--once", "--once-timeout", "0.5")) == 5
    fake.start()
    assert ended(pod("--once")) == 0
    assert tree(tmp_path / "pod" / "current") == A


def test_once_keeps_trying_until_the_server_is_there(fake, pod) -> None:
    fake.deploy(A)
    fake.stop()
    sidecar = pod("--once")
    eventually("a failure", lambda: any(line.get("code") == "server_unreachable" for line in sidecar.logged()))
    fake.start()
    assert ended(sidecar) == 0
    assert sidecar.tree() == A


# --- starting wrongly ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--poll-wait", "many"], 2, "--poll-wait='many'"),
        (["--no-such-flag"], 2, "--no-such-flag"),
        (["--listen", "256.256.256.256:1"], 2, "--listen"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(pod, flags, code, says) -> None:
    sidecar = pod(*flags)
    assert ended(sidecar) == code
    text = sidecar.log.read_text()
    assert says in text
    assert text.count("\n") == 1


def test_a_root_that_cannot_be_used_is_exit_code_6_and_says_what_to_do(pod, tmp_path) -> None:
    (tmp_path / "pod" / "current").mkdir(parents=True)
    sidecar = pod()
    assert ended(sidecar) == 6
    assert "Move it away" in sidecar.log.read_text()


def test_a_root_has_one_sidecar(fake, pod) -> None:
    first = pod().runs(fake.deploy(A))
    assert ended(pod()) == 6
    first.runs(fake.deploy(B))


@pytest.mark.parametrize("library", ["zstandard", "prometheus_client"])
def test_without_its_extra_it_ends_with_exit_code_2_and_names_it(tmp_path, library) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None; import importlib.util; find = importlib.util.find_spec;"
        f"importlib.util.find_spec = lambda name: None if name == {library!r} else find(name);"
        "from dagferry_sidecar.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "--root", str(tmp_path / "root"), "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2, done.stderr
    assert library in done.stderr
    assert 'pip install "dagferry[sidecar]"' in done.stderr
