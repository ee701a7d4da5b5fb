"""Makes archives by hand, right and wrong ones, and checks them: what a test needs to write a tar in one line."""

import gzip
import io

import zstandard

from dagferry_core.archive.check import ArchiveRules, CheckedArchive, check_archive
from dagferry_core.errors import DagferryError

POSIX = b"ustar\x0000"
GNU = b"ustar  \0"
END = bytes(1024)


def header(
    name=b"dags/a.py", size=0, *, kind=b"0", mode=0o644, target=b"", magic=POSIX, prefix=b"", fields=None, checksum=None
):
    """Return one header of 512 bytes. ``fields`` overwrites bytes at offsets, before the checksum is made."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[108:124] = b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0o15006
    block[156:157] = kind
    block[157 : 157 + len(target)] = target
    block[257:265] = magic
    block[345 : 345 + len(prefix)] = prefix
    for offset, value in (fields or {}).items():
        block[offset : offset + len(value)] = value
    assert len(block) == 512
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block) if checksum is None else checksum
    return bytes(block)


def padded(content):
    """Return content filled up with zeros to whole blocks."""
    return content + bytes(-len(content) % 512)


def file(name=b"dags/a.py", content=b"a = 1\n", **fields):
    """Return a file."""
    return header(name, len(content), **fields) + padded(content)


def folder(name, **fields):
    """Return a folder."""
    return header(name, kind=b"5", mode=0o755, **fields)


def symlink(name, target, **fields):
    """Return a symbolic link; long targets need a ``pax`` before it."""
    return header(name, kind=b"2", target=target, **fields)


def hard_link(name, target, **fields):
    """Return a hard link."""
    return header(name, kind=b"1", target=target, **fields)


def record(keyword, value):
    """Return one PAX record, whose length counts its own digits."""
    size = len(keyword) + len(value) + 3
    length = size + len(str(size))
    length = size + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def pax_raw(body, kind=b"x"):
    """Return an extended header with ``body`` as it is."""
    return header(b"PaxHeaders/a", len(body), kind=kind) + padded(body)


def pax(*records, kind=b"x"):
    """Return an extended header with records of (keyword, value)."""
    return pax_raw(b"".join(record(keyword, value) for keyword, value in records), kind)


def gnu_name(name, kind=b"L"):
    """Return a GNU long name (``L``) or long link (``K``)."""
    body = name + b"\0"
    return header(b"././@LongLink", len(body), kind=kind, magic=GNU) + padded(body)


def tar(*parts):
    """Return the parts as a tar, with its end marker."""
    return b"".join(parts) + END


def gz(data):
    """Return ``data`` as one gzip member."""
    return gzip.compress(data, 6, mtime=0)


def zst(data, level=3, **options):
    """Return ``data`` as one zstd frame, with a checksum as the zstd command writes it."""
    return zstandard.ZstdCompressor(level, write_checksum=True, **options).compress(data)


def check(data, *, root=None, **rules):
    """Check an archive; return what came out."""
    return _check(data, root, rules)[0]


def tree(data, *, root=None, **rules):
    """Check an archive; return its files as path -> (content, executable)."""
    checked, spool = _check(data, root, rules)
    contents = spool.getvalue()
    found = {}
    for path, entry in checked.manifest.files.items():
        start = checked.offsets[path]
        found[path] = contents[start : start + entry.size], entry.mode == 0o755
    return found


def _check(data, root, rules) -> tuple[CheckedArchive, io.BytesIO]:
    spool = io.BytesIO()
    return check_archive(io.BytesIO(data), spool, ArchiveRules(**rules), root=root), spool


def code(data, **options):
    """Return the code of the error that refuses an archive, or its files if it is accepted."""
    try:
        return sorted(check(data, **options).manifest.files)
    except DagferryError as error:
        refusal = error
    assert refusal.message
    assert refusal.message.isprintable(), "a message is one line, whatever the archive has in it"
    assert len(refusal.message) <= (4001 if " are refused. " in refusal.message else 1000)
    return refusal.code
