"""Reads the headers of a tar: the block of 512 bytes before each member, and the records of a PAX header.

A field that different programs could read differently is an error, even if its value is not used here: ``tarfile``
treats a header with an invalid number as the end of the archive.
"""

import re
from typing import NamedTuple

from dagferry_core.archive.errors import ArchiveCorrupt, ArchiveUnsupported
from dagferry_core.archive.paths import quoted
from dagferry_core.limits import MAX_PAX_RECORDS

BLOCK_BYTES = 512
_POSIX = b"ustar\x0000"
_GNU = b"ustar  \0"
# GNU's format has no prefix; its bytes are used only by incremental archives, sparse files and multi-volume archives.
_GNU_RARE = 345
# GNU tar reads a field of blanks as nothing, or as a mode with all bits set.
_NUMBER = re.compile(rb" *([0-7]+)[ \0]*|\0+")
_BINARY_NUMBER = 0x80
# Owners, time and device do not matter here; but where they are not numbers, tarfile stops silently.
_UNUSED_NUMBER = re.compile(rb" *[0-7]*[ \0]*|[\x80\xff].*", re.DOTALL)
_UNUSED_FIELDS = {
    "owner": slice(108, 116),
    "group": slice(116, 124),
    "time": slice(136, 148),
    "device's major number": slice(329, 337),
    "device's minor number": slice(337, 345),
}

# Each of these makes some readers use another size or content than the header says.
_REFUSED_KEYWORDS = {b"SCHILY.realsize", b"SUN.holesdata"}
_SPARSE_KEYWORDS = b"GNU.sparse."
SIZE = b"size"
_COUNTED_KEYWORDS = {b"path", b"linkpath", SIZE}
# GNU tar skips blanks before a keyword, and C programs end it at a NUL.
_KEYWORD = re.compile(rb"[^\x00-\x20\x7f]+")


class Header(NamedTuple):
    """What one header of 512 bytes says: names as bytes, mode bits, size in bytes, type and link target."""

    path: bytes
    mode: int
    size: int
    kind: bytes
    target: bytes


def begins_tar(block: bytes) -> bool:
    """Return whether this may be the start of a tar, even of a damaged one or of an unsupported format."""
    return block[257:262] == b"ustar" or (len(block) == BLOCK_BYTES and _has_checksum(block))


def _has_checksum(block: bytes) -> bool:
    stated = _NUMBER.fullmatch(block[148:156])
    # The checksum's own field counts as eight spaces.
    return stated is not None and int(stated[1] or b"0", 8) == sum(block) - sum(block[148:156]) + 8 * 0x20


def parse_header(block: bytes) -> Header:
    """Read a header; raise ``ArchiveCorrupt`` or ``ArchiveUnsupported`` where programs could read it differently."""
    if not _has_checksum(block):
        raise ArchiveCorrupt(f"A tar header is damaged: its checksum is wrong. It names {quoted(_text(block[:100]))}.")
    magic = block[257:265]
    path = _text(block[:100])
    if magic == _POSIX:
        prefix = _text(block[345:500])
        path = prefix + b"/" + path if prefix else path
    elif magic != _GNU:
        raise ArchiveUnsupported(f"The tar header of {quoted(path)} is neither in POSIX nor in GNU format.")
    elif block[_GNU_RARE:].strip(b"\0"):
        # tarfile takes them for a prefix, and libarchive (bsdtar) for those of a sparse file, whatever the type.
        raise ArchiveUnsupported(f"The tar header of {quoted(path)} has fields of an incremental or sparse archive.")
    for what, field in _UNUSED_FIELDS.items():
        if not _UNUSED_NUMBER.fullmatch(block[field]):
            raise _no_number(block[field], what, path)
    return Header(
        path=path,
        mode=_number(block[100:108], "mode", path),
        size=_number(block[124:136], "size", path),
        kind=block[156:157],
        target=_text(block[157:257]),
    )


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes, what: str, path: bytes) -> int:
    if field[0] & _BINARY_NUMBER:
        raise ArchiveUnsupported(
            f"The tar header of {quoted(path)} has its {what} as a binary number, negative or over 8 GiB."
        )
    match = _NUMBER.fullmatch(field)
    if not match:
        raise _no_number(field, what, path)
    return int(match[1] or b"0", 8)


def _no_number(field: bytes, what: str, path: bytes) -> ArchiveCorrupt:
    return ArchiveCorrupt(
        f"The tar header of {quoted(path)} has {field!r} as its {what}, which is not an octal number; "
        "some programs stop reading there."
    )


def pax_names(data: bytes) -> dict[bytes, bytes]:
    """Return ``path``, ``linkpath`` and ``size`` of a PAX header, if they are there.

    Its records are ``<length> <keyword>=<value>`` and a newline. A keyword has neither blanks nor control
    characters. Raises ``ArchiveCorrupt`` and ``ArchiveUnsupported``.
    """
    names: dict[bytes, bytes] = {}
    at = 0
    for _ in range(MAX_PAX_RECORDS + 1):
        if at == len(data):
            return names
        length, _, _ = data[at : at + 6].partition(b" ")
        end = at + int(length) if length.isdigit() and length[0] != ord("0") else 0
        keyword, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not equals or not _KEYWORD.fullmatch(keyword):
            raise ArchiveCorrupt(f"A PAX header has a malformed record: {data[at : at + 40]!r}.")
        if keyword in _REFUSED_KEYWORDS or keyword.startswith(_SPARSE_KEYWORDS):
            raise ArchiveUnsupported(
                f"A PAX header has the keyword {quoted(keyword)}, which programs interpret differently."
            )
        if keyword in _COUNTED_KEYWORDS:
            if keyword in names or not value:
                raise ArchiveUnsupported(
                    f"A PAX header has {quoted(keyword)} twice or empty, which programs interpret differently."
                )
            names[keyword] = value
        at = end
    raise ArchiveUnsupported(f"A PAX header has more than {MAX_PAX_RECORDS} records.")
