"""A server that claims what no server lets through costs the sidecar neither its memory nor its tree."""

import struct
from pathlib import Path

import pytest
import zstandard

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.patch import HEADER
from dagferry_core.bundle.reader import END, entry_header, member_header, padding
from harness import Sidecar, eventually

A = {"dag.py": b"x = 1\n"}
MEMORY_BYTES = 64 << 20
"""More than a sidecar with a few files ever takes."""


def whole(entry: Entry, content: bytes = b"") -> bytes:
    text = Manifest([entry]).text
    start = member_header("manifest.txt", len(text), 0o644) + text + bytes(padding(len(text)))
    return zstandard.compress(start + entry_header(entry) + content + END)


def huge_manifest() -> bytes:
    packed = zstandard.ZstdCompressor().compressobj()
    pieces = [packed.compress(member_header("manifest.txt", 200 << 20, 0o644))]
    pieces += [packed.compress(b"a" * (1 << 20)) for _ in range(200)]
    return b"".join([*pieces, packed.flush()])


def frame_of_zeros(size: int) -> bytes:
    """A frame of repeated blocks that says of itself that it holds ``size`` bytes, and does."""
    block = 128 << 10
    head = b"\x28\xb5\x2f\xfd\xc0\x58" + struct.pack("<Q", size)
    return head + (struct.pack("<I", block << 3 | 2)[:3] + b"\0") * (size // block) + b"\1\0\0"


def patch(entry: Entry, part: bytes) -> bytes:
    text = "\n".join([HEADER, "to " + "0" * 64, "batch 1", f"file {entry.line()}"]).encode()
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in (zstandard.compress(text), part))


GIB = 1 << 30
NO_HASH = "0" * 64
WHOLE = {
    "a negative size": lambda: whole(Entry("a.py", -5, 0o644, NO_HASH)),
    "a size of a whole block below nothing": lambda: whole(Entry("a.py", -512, 0o644, NO_HASH)),
    "a hundred gigabytes": lambda: whole(Entry("a.py", 10**11, 0o644, NO_HASH)),
    "a manifest of 200 MiB": huge_manifest,
    "a path with an escape sequence": lambda: whole(Entry("a\x1b[2J.py", 0, 0o644, NO_HASH)),
    "a path that leaves the tree": lambda: whole(Entry("../../evil.py", 0, 0o644, NO_HASH)),
}
PATCHES = {
    "a batch of 2 GiB": lambda: patch(Entry("b.py", 2 * GIB, 0o644, NO_HASH), frame_of_zeros(2 * GIB)),
    "a negative size": lambda: patch(Entry("b.py", -5, 0o644, NO_HASH), zstandard.compress(b"")),
    "a path that leaves the tree": lambda: patch(Entry("../b.py", 0, 0o644, NO_HASH), zstandard.compress(b"")),
}


def peak_bytes(sidecar: Sidecar) -> int:
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def refusals(sidecar: Sidecar) -> float:
    codes = ("answer_invalid", "digest_mismatch")
    return sum(sidecar.metric(f'dagferry_sidecar_syncs_total{{outcome="{code}"}}') for code in codes)


@pytest.mark.parametrize("lie", WHOLE.values(), ids=WHOLE)
def test_a_bundle_that_lies_is_refused_again_and_again_and_the_tree_stays(fake, follow, lie) -> None:
    sidecar = follow(fake.url).runs(fake.deploy(A))
    body = lie()
    fake.corrupt = lambda _kind, _body: body
    fake.deploy({**A, "b.py": b""})
    eventually("refusals", lambda: refusals(sidecar) >= 2)
    assert sidecar.tree() == A
    assert peak_bytes(sidecar) < MEMORY_BYTES
    fake.corrupt = lambda _kind, honest: honest
    sidecar.runs(fake.deploy({**A, "c.py": b""}))


@pytest.mark.parametrize("lie", PATCHES.values(), ids=PATCHES)
def test_a_patch_that_lies_is_refused_and_the_whole_is_taken(fake, follow, lie) -> None:
    sidecar = follow(fake.url).runs(fake.deploy(A))
    body = lie()
    fake.corrupt = lambda kind, honest: body if kind == "patch" else honest
    sidecar.runs(fake.deploy({**A, "b.py": b""}))
    assert refusals(sidecar) >= 1
    assert peak_bytes(sidecar) < MEMORY_BYTES
