"""A sidecar process follows the server, waits for the first deploy, ends on a signal, and refuses wrong settings."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from harness import eventually
from pods import A, B, C, ended, leftovers, lines, outcome, ready, stall

pytestmark = pytest.mark.slow

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


def test_a_seed_without_files_is_never_published_because_airflow_would_be_empty(fake, pod, tmp_path) -> None:
    seed = tmp_path / "image"
    (seed / "__pycache__").mkdir(parents=True)
    (seed / "__pycache__" / "builtin.pyc").write_bytes(b"")
    sidecar = pod("--when-empty", "seed", "--seed", str(seed), "--poll-wait", "30")
    eventually("the reason", lambda: (ready(sidecar)["error"] or {}).get("code") == "awaiting_first_deploy")
    assert f"the seed {seed} has no files" in ready(sidecar)["error"]["message"]
    assert sidecar.probe("/readyz")[0] == 503
    assert not (tmp_path / "pod" / "current").is_symlink()
    sidecar.runs(fake.deploy(A))
    eventually("readiness", lambda: ready(sidecar)["ready"] and ready(sidecar)["error"] is None)


def test_an_init_container_waits_with_a_seed_without_files_and_takes_the_first_deploy(fake, pod, tmp_path) -> None:
    seed = tmp_path / "image"
    seed.mkdir()
    flags = ("--when-empty", "seed", "--seed", str(seed), "--once")
    assert ended(pod(*flags, "--once-timeout", "1")) == 5
    assert not (tmp_path / "pod" / "current").is_symlink()
    sidecar = pod(*flags, "--once-timeout", "60")
    eventually("a request", lambda: len(fake.requests) > 3)
    assert sidecar.process.poll() is None
    fake.deploy(A)
    assert ended(sidecar) == 0
    assert sidecar.tree() == A


def test_no_seed_is_published_while_the_server_is_unreachable(fake, pod, tmp_path) -> None:
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


# --- ending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_deregisters_it(fake, pod, number) -> None:
    sidecar = pod("--poll-wait", "30", "--instance", "pod-7").runs(fake.deploy(A))
    eventually("the wait", lambda: any("Prefer" in headers for _, headers in fake.requests))
    sidecar.process.send_signal(number)
    assert ended(sidecar) == 0
    deregister = fake.requests[-1][1]
    assert (deregister["Dagferry-Deregister"], deregister["Dagferry-Instance"]) == ("1", "pod-7")


def test_a_restarted_container_is_the_same_pod_and_one_with_another_volume_is_not(fake, pod) -> None:
    version = fake.deploy(A)
    sidecar = pod("--poll-wait", "30", "--instance", "pod-7").runs(version)

    def reported() -> list[dict[str, str]]:
        return [headers for path, headers in fake.requests if path.endswith("/current") and "Dagferry-Live" in headers]

    eventually("a report", reported)
    first = reported()[-1]
    assert first["Dagferry-Log"] == fake.log_id
    sidecar.kill()
    fake.requests.clear()
    pod("--poll-wait", "30", "--instance", "pod-7").runs(version)
    eventually("a report", reported)
    assert reported()[-1]["Dagferry-Volume"] == first["Dagferry-Volume"]


def test_a_signal_while_the_server_is_unreachable_ends_it_too(fake, pod) -> None:
    sidecar = pod().runs(fake.deploy(A))
    fake.stop()
    eventually("a failure", lambda: outcome(sidecar, "server_unreachable") >= 1)
    sidecar.stop(0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)], ids=["SIGTERM", "SIGKILL"])
def test_an_end_in_the_middle_of_a_download_costs_nothing(fake, pod, tmp_path, number, code) -> None:
    over = threading.Event()
    fake.intercept = stall(fake, over)
    version = fake.deploy({**A, "big.sql": os.urandom(2_000_000)})
    sidecar = pod()
    over.wait(30)
    eventually("a tree in the making", lambda: list((tmp_path / "pod" / ".trees").glob("*/*/*")))
    sidecar.process.send_signal(number)
    assert ended(sidecar) == code
    if number == signal.SIGTERM:
        assert leftovers(tmp_path / "pod") == set()
    assert not (tmp_path / "pod" / "current").exists()
    fake.intercept = lambda _kind, _handler: False
    pod().runs(version)
    eventually("the sweep", lambda: leftovers(tmp_path / "pod") == set())


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


def test_without_its_extra_it_ends_with_exit_code_2_and_names_it(tmp_path) -> None:
    program = (
        "import sys; sys.modules['zstandard'] = None; from dagferry_sidecar.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "--root", str(tmp_path / "root"), "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2, done.stderr
    assert "zstandard" in done.stderr
    assert 'pip install "dagferry[sidecar]"' in done.stderr
