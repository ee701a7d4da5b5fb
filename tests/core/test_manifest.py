"""The manifest: one text for the same files, and a digest over it."""

import hashlib

import pytest

from dagferry_core.errors import AnswerInvalid
from dagferry_core.manifest import EMPTY, Entry, Manifest

SHA = hashlib.sha256(b"").hexdigest()
A, B, C = (Entry(path, 0, 0o644, SHA) for path in ("a.py", "b/c.py", "ä.py"))


def test_the_text_is_the_documented_one() -> None:
    manifest = Manifest([B, A._replace(mode=0o755, size=12)])
    assert manifest.text.decode() == f"dagferry-manifest 1\n{SHA} 0755 12 a.py\n{SHA} 0644 0 b/c.py\n"
    assert manifest.digest == "sha256:" + hashlib.sha256(manifest.text).hexdigest()


def test_order_is_by_the_bytes_of_the_path_and_not_by_who_packed_it() -> None:
    assert Manifest([C, B, A]).text == Manifest([A, B, C]).text
    assert list(Manifest([C, B, A]).files) == ["a.py", "b/c.py", "ä.py"]


def test_it_reads_what_it_writes() -> None:
    manifest = Manifest([A, B, C._replace(path="with space .py")])
    assert Manifest.parse(manifest.text).files == manifest.files
    assert Manifest.parse(EMPTY.text).files == {}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"dagferry-manifest 2\n",
        b"dagferry-manifest 1",
        f"dagferry-manifest 1\n{SHA} 0644 0 b.py\n{SHA} 0644 0 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644 0 a.py\n{SHA} 0644 0 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0666 0 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644 00 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644 0 \n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644\n".encode(),
        f"dagferry-manifest 1\n{SHA[1:]} 0644 0 a.py\n".encode(),
    ],
)
def test_any_other_form_is_refused(text: bytes) -> None:
    with pytest.raises(AnswerInvalid):
        Manifest.parse(text)


def test_changes_are_told_apart() -> None:
    changes = Manifest([A, B._replace(size=1)]).changes_from(Manifest([B, C]))
    assert changes == (["a.py"], ["b/c.py"], ["ä.py"])
