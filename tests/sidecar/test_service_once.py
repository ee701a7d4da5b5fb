"""``--once`` in a process of its own: what it publishes, and its exit code."""

import contextlib
import threading
import time

import pytest

from dagferry_follow.remote.server import SILENCE_SECONDS
from harness import eventually, tree
from pods import A, B, ended, promise_whole

pytestmark = pytest.mark.slow


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
    assert all(headers["Dagferry-Once"] == "1" for headers in asked)
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


def test_once_without_a_server_but_with_an_intact_tree_exits_with_0_with_a_warning(fake, pod) -> None:
    fake.deploy(A)
    assert ended(pod("--once")) == 0
    fake.stop()
    sidecar = pod("--once")
    assert ended(sidecar) == 0
    told = [line["message"] for line in sidecar.logged() if line["level"] == "warning"]
    assert any("does not answer" in message and "The live tree stays." in message for message in told)


def test_once_with_an_intact_tree_says_what_keeps_it_from_the_server(fake, pod) -> None:
    fake.deploy(A)
    assert ended(pod("--once")) == 0
    fake.intercept = lambda _kind, handler: fake.send(handler, 401, b'{"code":"token_unknown","message":"No."}') or True
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
    fake.intercept = drip
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
    fake.intercept = lambda _kind, _handler: over.wait(30)
    started = time.monotonic()
    assert ended(pod("--once", "--once-timeout", "1.5")) == (0 if has_tree else 5)
    assert time.monotonic() - started < SILENCE_SECONDS
    over.set()


def test_once_without_a_server_and_without_a_tree_ends_with_the_errors_code_after_its_timeout(fake, pod) -> None:
    fake.stop()
    assert ended(pod("--once", "--once-timeout", "0.5")) == 5


def test_once_with_a_corrupt_tree_and_without_a_server_does_not_pretend(fake, pod, tmp_path) -> None:
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
