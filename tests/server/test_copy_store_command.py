"""``dagferry-server copy-store``: between a folder and a bucket, both ways, next to a server, killed and full."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import PATIENCE_SECONDS, run
from dagferry_server import copy_store_command
from dagferry_server.commands import main
from harness import Server, tree
from running import A, B
from stores import ObjectStoreUnderTest, store_under_test
from volumes import fill, free_again, needs_mounts, small_volume

pytestmark = pytest.mark.slow

C = {**A, "shop.py": b"rate = 3\n", "model.bin": os.urandom(300_000)}
SENT = ("deploys", "bundles")


@pytest.fixture
def origin(serve: Any) -> Server:
    """A server with three deploys."""
    server: Server = serve("--deployments", "prod,staging")
    for files in (A, B, C):
        server.deploy(files, "prod")
    return server


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[ObjectStoreUnderTest]:
    store = store_under_test("versitygw", tmp_path)
    assert isinstance(store, ObjectStoreUnderTest)
    yield store
    store.close()


def copy(origin: object, target: object, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("copy-store", str(origin), str(target), *more, **environment)


def kept(folder: Path) -> dict[str, bytes]:
    """What a copy has of a data folder: everything but locks and scratch."""
    return {path: data for path, data in tree(folder).items() if set(SENT) & set(path.split("/")) or "log.json" in path}


def test_from_a_folder_to_a_bucket_and_back_next_to_a_server(origin, bucket, tmp_path) -> None:
    variables = bucket.variables()
    there = copy(f"file://{origin.data}", bucket.url, **variables)
    assert (there.returncode, there.stderr) == (0, "")
    lines = there.stdout.splitlines()
    assert re.fullmatch(
        r"prod: copied 3 of 3 bundles \(0\.\d MiB\) and 3 of 3 entries, the rest was there; complete", lines[0]
    )
    assert lines[1].startswith("staging: copied 0 of 0 bundles")
    ended = run("verify", "--store", bucket.url, **variables)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0] == (
        "prod: 3 entries, 2 of them chained; 3 bundles, 0 no longer stored; 0 problems"
    )
    back = copy(bucket.url, f"file://{tmp_path}/back", **variables)
    assert back.returncode == 0, back.stderr
    assert kept(tmp_path / "back") == kept(origin.data)
    assert origin.get("/readyz")[0] == 200


def test_a_server_goes_on_with_the_copy(origin, tmp_path, serve) -> None:
    before = origin.current("prod")
    assert copy(f"file://{origin.data}", f"file://{tmp_path}/copy").returncode == 0
    origin.stop()
    server = serve("--deployments", "prod,staging", data="copy")
    assert server.current("prod") == before
    assert server.deploy(A, "prod")["sequence"] == 4


def killed_after(number: int, origin: Server, target: Path, tmp_path: Path) -> int:
    """Copy, and kill -9 the command at the nth time it gives a file its name; return its exit code."""
    inject = "inject=link,linkat,rename,renameat,renameat2:signal=SIGKILL"
    trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"{inject}:when={number}"]
    command = [sys.executable, "-m", "dagferry_server", "copy-store", f"file://{origin.data}", f"file://{target}"]
    return subprocess.run([*trace, *command], check=False, capture_output=True, timeout=PATIENCE_SECONDS).returncode


def test_a_copy_to_a_folder_that_was_killed_is_continued(origin, tmp_path) -> None:
    for number in (1, 4, 7, 9):
        target = tmp_path / f"copy-{number}"
        assert killed_after(number, origin, target, tmp_path) in (-signal.SIGKILL, 128 + signal.SIGKILL)
        assert kept(target) != kept(origin.data)
        assert copy(f"file://{origin.data}", f"file://{target}").returncode == 0
        assert kept(target) == kept(origin.data)


def test_a_copy_to_a_bucket_that_was_killed_is_continued(origin, bucket, tmp_path) -> None:
    proxy = bucket.proxies[0]
    assert copy(f"file://{origin.data}", f"{bucket.url}/clean", **bucket.variables(proxy)).returncode == 0
    requests = sum(proxy.counts().values())
    command = [sys.executable, "-m", "dagferry_server", "copy-store", f"file://{origin.data}"]
    for number in (requests - 24, requests - 12, requests - 2):
        running: list[subprocess.Popen[bytes]] = []
        proxy.stop_at(number, lambda _, running=running: running[0].kill())
        url = f"{bucket.url}/{number}"
        running.append(subprocess.Popen([*command, url], env={**os.environ, **bucket.variables(proxy)}))
        assert running[0].wait(PATIENCE_SECONDS) == -signal.SIGKILL
        proxy.resume()
        assert copy(f"file://{origin.data}", url, **bucket.variables()).returncode == 0
        assert copy(url, f"file://{tmp_path}/back-{number}", **bucket.variables()).returncode == 0
        assert kept(tmp_path / f"back-{number}") == kept(origin.data)


@needs_mounts
def test_a_full_volume_is_exit_code_5_and_space_is_all_that_it_needs(origin, tmp_path) -> None:
    with small_volume(tmp_path / "volume", 4 << 20) as volume:
        fill(volume, leave_bytes=200_000)
        ended = copy(f"file://{origin.data}", f"file://{volume}/copy")
        assert ended.returncode == 5
        assert "No space left on device" in ended.stderr
        free_again(volume)
        assert copy(f"file://{origin.data}", f"file://{volume}/copy").returncode == 0
        assert kept(volume / "copy") == kept(origin.data)


def test_what_differs_is_exit_code_6_and_the_other_deployments_are_copied(origin, tmp_path, serve) -> None:
    other = serve("--deployments", "prod", data="other")
    other.deploy(B, "prod")
    other.stop()
    before = kept(tmp_path / "other" / "prod")
    ended = copy(f"file://{origin.data}", f"file://{other.data}")
    assert ended.returncode == 6
    first, second = ended.stdout.splitlines()
    assert first == (
        "prod: deploy 1 is another one in each of the stores: nothing was overwritten. Copy to an empty store, or the "
        "other way"
    )
    assert second.startswith("staging: ")
    assert kept(tmp_path / "other" / "prod") == before


def test_a_folder_that_a_server_uses_is_no_target(origin, serve, tmp_path) -> None:
    other = serve("--deployments", "prod", data="other")
    ended = copy(f"file://{origin.data}", f"file://{other.data}")
    assert (ended.returncode, "Another server uses the data folder" in ended.stderr) == (5, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "The following arguments are required: FROM, TO"),
        (["file:///nowhere"], "The following arguments are required: TO"),
        (["/nowhere", "file:///there"], "FROM='/nowhere': a URL that begins with file://, s3://"),
        (["file:///nowhere", "file:///nowhere/"], "FROM and TO are both file:///nowhere."),
        (["file:///nowhere", "file:///there"], "/nowhere is not a folder"),
        (["file:///proc/self/fd", "file:///there"], "has no deploy log of any deployment"),
    ],
)
def test_what_cannot_be_copied_is_exit_code_2_and_one_line(arguments, words) -> None:
    ended = run("copy-store", *arguments)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_lines_say_how_far_it_is(origin, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(copy_store_command, "PROGRESS_SECONDS", 0.0)
    arguments = ["copy-store", f"file://{origin.data}", f"file://{tmp_path}/copy", "--deployments", "prod"]
    assert main(arguments, {}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[2].startswith("prod: copied 2 of 3 bundles")
    assert lines[-1].endswith("complete")


def test_new_log_id_and_verify_take_a_bucket(origin, bucket) -> None:
    variables = {**bucket.variables(), "DAGFERRY_STORE": bucket.url}
    ended = run("verify", **variables)
    assert (ended.returncode, "has no deploy log of any deployment" in ended.stderr) == (2, True)
    assert copy(f"file://{origin.data}", bucket.url, **variables).returncode == 0
    before = bucket.open().log_id("prod")
    ended = run("new-log-id", "--deployments", "prod", **variables)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["prod", bucket.open().log_id("prod")]
    assert before != bucket.open().log_id("prod")
    objects = bucket.objects()
    [key] = [meta.key for meta in objects.list("prod") if meta.key.endswith("002.json")]
    objects.put(key, b"{}")
    ended = run("verify", **variables)
    assert (ended.returncode, "prod: entry 2 is damaged" in ended.stdout) == (6, True)
