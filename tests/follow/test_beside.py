"""What a sidecar and the dag processor beside it tell each other through the volume."""

import os
from pathlib import Path

import pytest

from dagferry_follow.beside import MAX_KEPT_BYTES, read_address, read_kept, write_address, write_kept


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".trees").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("listens", "reached"),
    [
        (("127.0.0.1", 8001), ("127.0.0.1", 8001)),
        (("0.0.0.0", 8001), ("127.0.0.1", 8001)),
        (("::", 9), ("::1", 9)),
        (("::1", 65535), ("::1", 65535)),
        (("pod-1.example", 80), ("pod-1.example", 80)),
    ],
)
def test_the_address_is_one_that_can_be_reached_from_the_same_machine(root, listens, reached) -> None:
    write_address(str(root), *listens)
    assert read_address(str(root)) == reached


@pytest.mark.parametrize("text", ["", "8001", "http://x:1", "a b:1", "x:123456", "x:1\ny:2", "\0:1", "x" * 9999])
def test_anything_else_is_no_address(root, text: str) -> None:
    (root / ".trees/sidecar").write_text(text)
    assert read_address(str(root)) is None


def test_nothing_noted_is_nothing(tmp_path) -> None:
    assert read_address(str(tmp_path)) is None
    assert not read_kept(str(tmp_path))
    with pytest.raises(OSError, match="No such file"):
        write_kept(str(tmp_path), "x")


@pytest.fixture
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_what_is_kept_is_replaced_as_a_whole_and_readable_for_all(root) -> None:
    for text in ("first", "a longer second one", "3"):
        write_kept(str(root), text)
        assert read_kept(str(root)) == text
    assert (root / ".trees/parsed.json").stat().st_mode & 0o777 == 0o644
    assert os.listdir(root / ".trees") == ["parsed.json"]
    (root / ".trees/parsed.json").write_bytes(b"x" * (MAX_KEPT_BYTES + 9))
    assert len(read_kept(str(root))) == MAX_KEPT_BYTES
