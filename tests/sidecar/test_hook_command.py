"""The command of ``--hook-command`` is told what is live, and its end is what counts."""

import subprocess
import sys
import textwrap
import threading

import pytest

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import HookFailed
from dagferry_sidecar.hook_command import HookCommand
from harness import PATIENCE_SECONDS, eventually
from volumes import only_root

DEPLOY = DeployRef("log", 42, "20261120T064501Z-000042", "sha256:" + "0" * 64)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_it_gets_version_digest_sequence_and_folder(tmp_path) -> None:
    names = "DAGFERRY_VERSION DAGFERRY_DIGEST DAGFERRY_SEQUENCE DAGFERRY_FOLDER"
    code = f"import os; open({str(tmp_path / 'told')!r}, 'w').write(' '.join(os.environ[n] for n in {names!r}.split()))"
    HookCommand(python(code), "/dags/current").run(DEPLOY)
    assert (tmp_path / "told").read_text() == f"{DEPLOY.version} {DEPLOY.digest} 42 /dags/current"


def test_it_does_not_get_the_sidecars_token(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DAGFERRY_TOKEN", "dgf_secret")
    code = f"import os; open({str(tmp_path / 'told')!r}, 'w').write(' '.join(os.environ.values()))"
    HookCommand(python(code), "/dags/current").run(DEPLOY)
    assert "/dags/current" in (tmp_path / "told").read_text()
    assert "dgf_secret" not in (tmp_path / "told").read_text()


def test_a_failure_is_reported_with_its_exit_code() -> None:
    with pytest.raises(HookFailed, match="ended with exit code 3"):
        HookCommand(python("raise SystemExit(3)"), "").run(DEPLOY)


def test_a_command_that_is_not_there_fails() -> None:
    with pytest.raises(HookFailed, match="/nowhere/hook cannot be started: No such file"):
        HookCommand(["/nowhere/hook"], "").run(DEPLOY)


def test_a_command_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path) -> None:
    held = tmp_path / "held"
    held.touch()
    code = (
        f"import subprocess, fcntl; f = open({str(held)!r}); fcntl.flock(f, 2)\n"
        "subprocess.run(['sleep', '99'], pass_fds=[f.fileno()])"
    )
    with pytest.raises(HookFailed, match="took longer than"):
        HookCommand(python(code), "", max_seconds=1).run(DEPLOY)
    assert_unlocked(held)


def test_a_command_at_work_is_stopped(tmp_path) -> None:
    hook = HookCommand(python(f"open({str(tmp_path / 'began')!r}, 'w'); import time; time.sleep(99)"), "")
    failed = threading.Event()

    def run() -> None:
        with pytest.raises(HookFailed):
            hook.run(DEPLOY)
        failed.set()

    threading.Thread(target=run).start()
    eventually("the command to begin", (tmp_path / "began").exists)
    hook.stop()
    assert failed.wait(PATIENCE_SECONDS)


@only_root
def test_as_the_first_process_of_a_container_it_leaves_no_zombies() -> None:
    code = textwrap.dedent(
        """
        import os, time
        from dagferry_follow.deploy_ref import DeployRef
        from dagferry_sidecar.hook_command import HookCommand

        assert os.getpid() == 1
        hook = HookCommand(["sh", "-c", "sleep 0.1 & sleep 0.1 & :"], "")
        hook.run(DeployRef("log", 1, "v-1", "sha256:1"))
        for _ in range(2):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            time.sleep(0.3)
            hook.run(DeployRef("log", 1, "v-1", "sha256:1"))
            assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None, "the first two are buried"
        """
    )
    command = ["unshare", "--fork", "--pid", "--kill-child", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def assert_unlocked(path) -> None:
    import fcntl

    def free() -> bool:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    eventually("everything to end", free)
