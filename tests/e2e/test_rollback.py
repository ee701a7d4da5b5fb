"""A rollback reaches a pod that still has the old tree, and hardly anything is downloaded."""

import random

import pytest

from harness import Server, Sidecar, eventually
from pods import lines

pytestmark = pytest.mark.slow

NOISE = random.Random(7).randbytes(9_000_000)  # more than a patch may have
A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "other.py": b"import os\n", "model.bin": NOISE}
B = {**A, "shop.py": b"rate = 2\n", "model.bin": NOISE[::-1]}


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data").ready()
    yield server
    server.stop()


@pytest.fixture
def pod(server, tmp_path):
    pod = Sidecar(server.url, tmp_path / "pod")
    yield pod
    pod.stop()


def published(pod: Sidecar, told: dict[str, object]) -> dict[str, object]:
    """Wait until a deploy is live in the pod, and return the line of its log."""
    pod.runs(told["version"])
    return eventually(
        "the log", lambda: [line for line in lines(pod, "Tree published") if line["version"] == told["version"]]
    )[0]


def test_a_rollback_takes_the_files_from_the_old_tree(server, pod, tmp_path) -> None:
    first = server.deploy(A)
    published(pod, first)
    assert published(pod, server.deploy(B))["kind"] == "whole"
    before = (tmp_path / "pod" / "current" / "other.py").stat()
    line = published(pod, server.rollback(first["version"]))
    assert (line["kind"], line["fresh_files"]) == ("patch", 3)
    assert line["bytes"] < 1000
    assert pod.tree() == A
    after = (tmp_path / "pod" / "current" / "other.py").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_old_tree_that_was_damaged_costs_a_download_and_nothing_else(server, pod, tmp_path) -> None:
    first = server.deploy(A)
    published(pod, first)
    old = (tmp_path / "pod" / "current").resolve()
    published(pod, server.deploy(B))
    (old / "model.bin").unlink()
    (old / "model.bin").write_bytes(b"junk")
    assert published(pod, server.rollback(first["version"]))["kind"] == "whole"
    assert pod.tree() == A
