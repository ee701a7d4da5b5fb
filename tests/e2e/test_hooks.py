"""What is done after a swap: told of the newest version, tried again, in nobody's way."""

import shlex
import sys

import pytest

from harness import PATIENCE_SECONDS, eventually

A, B, C = ({"dag.py": b"n = %d\n" % number} for number in range(3))


def command(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_the_command_hears_of_each_version_and_is_tried_again(serve, follow, tmp_path) -> None:
    told = tmp_path / "told"
    told.touch()
    code = (
        f"import os; told = open({str(told)!r}, 'a+'); told.seek(0); first = not told.read(); "
        "told.write(os.environ['DAGFERRY_VERSION'] + '\\n'); raise SystemExit(first)"
    )
    server = serve()
    pod = follow(server, "pod", "--hook-command", command(code))
    version = server.deploy(A)["version"]
    eventually("the second try", lambda: told.read_text().split()[-2:] == [version, version])
    other = server.deploy(B)["version"]
    eventually("the next version", lambda: told.read_text().split()[-1:] == [other])
    failed = 'dagferry_sidecar_hooks_total{hook="hook-command",outcome="hook_failed"}'
    assert pod.metric(failed) == 1
    pod.stop()


def test_a_command_at_work_holds_up_neither_a_swap_nor_the_end(serve, follow, tmp_path) -> None:
    code = f"import time; open({str(tmp_path / 'began')!r}, 'w'); time.sleep(1000)"
    server = serve()
    pod = follow(server, "pod", "--hook-command", command(code))
    pod.runs(server.deploy(A)["version"])
    eventually("the command to begin", (tmp_path / "began").exists)
    pod.runs(server.deploy(B)["version"])
    pod.runs(server.deploy(C)["version"])
    pod.stop()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--hook-command", ""), "a command is expected"),
        (("--hook-command", "'"), "No closing quotation"),
        (("--airflow-url", "http://airflow:8080"), "must be given together"),
        (("--airflow-credentials", "/etc/airflow"), "must be given together"),
        (("--airflow-url", "http://airflow:8080", "--airflow-credentials", "/etc/airflow"), "is plain HTTP"),
    ],
)
def test_a_wrong_setting_ends_with_2_and_one_line(follow, flags, said) -> None:
    pod = follow("http://127.0.0.1:9", "pod", *flags)
    assert pod.process.wait(PATIENCE_SECONDS) == 2
    assert said in pod.log.read_text()
