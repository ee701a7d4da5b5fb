"""What some bytes are that should be something else."""

import gzip

import pytest

from dagferry_core.archive.kinds import SHOWN_BYTES, kind_of


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (gzip.compress(b"", mtime=0), "a gzip"),
        (b"\x28\xb5\x2f\xfd\x00", "a zstd"),
        (b"PK\x03\x04", "a zip file"),
        (b"BZh9", "compressed with bzip2"),
        (b"\xfd7zXZ\x00", "compressed with xz"),
        (b"\n <!DOCTYPE html><title>Log in", "an HTML page, such as the login page of a proxy"),
        (b"<HTML>", "an HTML page, such as the login page of a proxy"),
        (b"no such page\n", "text that begins with 'no such page\\n'"),
        (b"x" * SHOWN_BYTES + b"y", f"text that begins with {'x' * SHOWN_BYTES!r}"),
        (
            b"x" * (SHOWN_BYTES - 1) + "é".encode(),
            f"text that begins with {'x' * (SHOWN_BYTES - 1) + chr(0xFFFD)!r}",
        ),
        (b"caf\xe9 is Latin-1", "something else"),
        (b"text\x00", "something else"),
        (b"", "something else"),
    ],
)
def test_what_something_is_is_recognized_by_its_first_bytes(head: bytes, kind: str) -> None:
    assert kind_of(head) == kind
