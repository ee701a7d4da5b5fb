"""Reads the members of a tar, strictly: what different programs could read differently is an error.

The formats are those of POSIX pax(1), "ustar Interchange Format" and "pax Interchange Format", and GNU's with long
names. Sizes come from the header alone, so no two readers can disagree where the next one starts (CVE-2025-62518).
``tarfile`` is not used: it takes a corrupt header in the middle for the end, and holds extended headers of any size.

Paths and targets leave here as the bytes of the archive; ``paths`` decides what is allowed, ``archive`` what is kept.
"""

import enum
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dagferry_core.errors import (
    ArchiveCorrupt,
    ArchiveTrailingData,
    ArchiveTruncated,
    ArchiveUnsupported,
    MemberTypeRefused,
    TooManyFiles,
)
from dagferry_core.limits import (
    MAX_EXTENSIONS_PER_MEMBER,
    MAX_LONG_NAME_BYTES,
    MAX_PAX_HEADER_BYTES,
    MAX_PAX_RECORDS,
    PIECE_BYTES,
)
from dagferry_core.paths import shown

_BLOCK_BYTES = 512
_ZEROS = bytes(_BLOCK_BYTES)
_POSIX = b"ustar\x0000"
_GNU = b"ustar  \0"
# In GNU's format there is no prefix, but what only incremental archives, sparse files and volumes have.
_GNU_RARE = 345
_NUMBER = re.compile(rb" *([0-7]*)[ \0]*")
_BINARY_NUMBER = 0x80

_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = b"x", b"g", b"L", b"K"
_EXTENSIONS = {
    _PAX: MAX_PAX_HEADER_BYTES,
    _PAX_GLOBAL: MAX_PAX_HEADER_BYTES,
    _GNU_NAME: MAX_LONG_NAME_BYTES,
    _GNU_LINK: MAX_LONG_NAME_BYTES,
}
_NOT_SUPPORTED = {b"S": "a sparse file", b"M": "the continuation of a file from another volume"}
# Each of these makes some reader take another size, or another content, than the header says.
_REFUSED_KEYWORDS = {b"size", b"SCHILY.realsize", b"SUN.holesdata"}
_SPARSE_KEYWORDS = b"GNU.sparse."


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"


_OLD_FILE = b"\0"
_KINDS = {b"0": Kind.FILE, _OLD_FILE: Kind.FILE, b"1": Kind.HARD_LINK, b"2": Kind.SYMLINK, b"5": Kind.FOLDER}


class _Header(NamedTuple):
    path: bytes
    mode: int
    size: int
    kind: bytes
    target: bytes


class Member:
    """One member: kind, path and target as bytes of the archive, mode bits, size of the content in bytes."""

    __slots__ = ("_exact", "_unread", "kind", "mode", "path", "size", "target")

    def __init__(self, kind: Kind, path: bytes, target: bytes, header: _Header, exact: Callable[[int], bytes]) -> None:
        self.kind = kind
        self.path = path
        self.target = target
        self.size = header.size
        self.mode = header.mode
        self._unread = header.size
        self._exact = exact

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most ``PIECE_BYTES``. What was not taken is skipped at the next member."""
        while self._unread:
            piece = self._exact(min(self._unread, PIECE_BYTES))
            self._unread -= len(piece)
            yield piece


def members(read: Callable[[int], bytes], max_members: int) -> Iterator[Member]:
    """Yield each member of the tar that ``read`` gives: as many bytes as asked for, fewer only at its proven end.

    ``TooManyFiles`` after ``max_members`` members or as many extended headers; ``ArchiveError`` for whatever is not
    exactly one well-formed tar, up to the end of ``read``.
    """

    def exact(size: int) -> bytes:
        data = read(size)
        if len(data) < size:
            raise ArchiveTruncated("The tar ends before its end marker, two blocks of zeros.")
        return data

    found = extended = 0
    extension = _Extension()
    while (block := exact(_BLOCK_BYTES)) != _ZEROS:
        header = _parse(block)
        if header.kind in _EXTENSIONS:
            extended += 1
            extension.add(header, exact)
        else:
            found += 1
        if max(found, extended) > max_members:
            raise TooManyFiles(
                f"The archive has at least {max_members + 1:,} members or extended headers; the limit is "
                f"{max_members:,} (--max-files)."
            )
        if header.kind in _EXTENSIONS:
            continue
        member = extension.member(header, exact)
        extension = _Extension()
        yield member
        for _ in member.chunks():
            pass
        exact(-member.size % _BLOCK_BYTES)
    if extension.names:
        raise ArchiveCorrupt("The tar ends after an extended header, without the member it belongs to.")
    _check_end(exact, read)


def _check_end(exact: Callable[[int], bytes], read: Callable[[int], bytes]) -> None:
    """After the first block of zeros: a second one, and then nothing but zeros, in whole blocks."""
    if exact(_BLOCK_BYTES) != _ZEROS:
        raise ArchiveCorrupt("The tar has one block of zeros where two would mark its end.")
    size = 0
    while piece := read(PIECE_BYTES):
        if piece.strip(b"\0"):
            raise ArchiveTrailingData("Something follows the end marker of the tar.")
        size += len(piece)
    if size % _BLOCK_BYTES:
        raise ArchiveTruncated("The tar does not end with a whole block.")


def _parse(block: bytes) -> _Header:
    stated = _NUMBER.fullmatch(block[148:156])
    # The checksum's own field counts as eight spaces.
    if not stated or int(stated[1] or b"0", 8) != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise ArchiveCorrupt(f"A tar header is damaged, its checksum is wrong; it names {shown(_text(block[:100]))}.")
    magic = block[257:265]
    path = _text(block[:100])
    if magic == _POSIX:
        prefix = _text(block[345:500])
        path = prefix + b"/" + path if prefix else path
    elif magic != _GNU:
        raise ArchiveUnsupported(f"The tar header of {shown(path)} is neither of the POSIX nor of the GNU format.")
    elif block[_GNU_RARE:].strip(b"\0"):
        # tarfile takes them for a prefix, and libarchive (bsdtar) for those of a sparse file, whatever the type.
        raise ArchiveUnsupported(f"The tar header of {shown(path)} has fields of an incremental or sparse archive.")
    return _Header(
        path=path,
        mode=_number(block[100:108], "mode"),
        size=_number(block[124:136], "size"),
        kind=block[156:157],
        target=_text(block[157:257]),
    )


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes, what: str) -> int:
    if field[0] & _BINARY_NUMBER:
        raise ArchiveUnsupported(f"A tar header has its {what} as a binary number, negative or over 8 GiB.")
    match = _NUMBER.fullmatch(field)
    if not match:
        raise ArchiveCorrupt(f"A tar header has {field!r} as its {what}, which is no octal number.")
    return int(match[1] or b"0", 8)


class _Extension:
    """What extended headers say about the next member. Each thing may be said once."""

    __slots__ = ("_count", "names")

    def __init__(self) -> None:
        self._count = 0
        # By the type of the header that says it; "path" and "linkpath" by the keyword. _PAX itself: one was seen.
        self.names: dict[bytes, bytes] = {}

    def add(self, header: _Header, exact: Callable[[int], bytes]) -> None:
        """Read the content of one extended header."""
        kind, size = header.kind, header.size
        self._count += 1
        if self._count > MAX_EXTENSIONS_PER_MEMBER:
            raise ArchiveUnsupported(f"A member has more than {MAX_EXTENSIONS_PER_MEMBER} extended headers.")
        if size > _EXTENSIONS[kind]:
            raise ArchiveUnsupported(f"An extended header has {size} bytes; at most {_EXTENSIONS[kind]} are allowed.")
        if kind in self.names:
            raise ArchiveUnsupported("A member has two extended headers of one kind; programs differ in which counts.")
        data = exact(size)
        exact(-size % _BLOCK_BYTES)
        if kind == _PAX_GLOBAL:
            if not {b"path", b"linkpath"}.isdisjoint(_pax_names(data)):
                raise ArchiveUnsupported("A global PAX header names a path, for all members at once.")
        elif kind == _PAX:
            self.names.update(_pax_names(data))
            self.names[_PAX] = b""
        else:
            name = data.rstrip(b"\0")
            if not name:
                raise ArchiveCorrupt("A GNU long name is empty.")
            self.names[kind] = name
        if {_GNU_NAME, b"path"} <= self.names.keys() or {_GNU_LINK, b"linkpath"} <= self.names.keys():
            raise ArchiveUnsupported("A member has a PAX and a GNU long name; programs differ in which counts.")

    def member(self, header: _Header, exact: Callable[[int], bytes]) -> Member:
        """Return the member that ``header`` and what was added describe."""
        names = self.names
        path = names.get(b"path") or names.get(_GNU_NAME) or header.path
        kind = _KINDS.get(header.kind)
        if header.kind in _NOT_SUPPORTED:
            raise ArchiveUnsupported(f"{shown(path)} is {_NOT_SUPPORTED[header.kind]}.")
        if kind is None:
            raise MemberTypeRefused(
                f"{shown(path)} is a device, a FIFO, a socket or of an unknown type ({header.kind!r}); "
                "only files, folders and links may be in the archive."
            )
        if kind is not Kind.FILE and header.size:
            raise ArchiveUnsupported(f"{shown(path)} is a {kind.value} with a size; some programs read content there.")
        # tarfile makes a folder of an old file by its short name alone (CVE-2025-13462). In files of the newer type a
        # long name may be cut there anywhere.
        folder_to_some = path.endswith(b"/") or (header.kind == _OLD_FILE and header.path.endswith(b"/"))
        if kind is not Kind.FOLDER and folder_to_some:
            raise ArchiveUnsupported(f"{shown(path)} is a {kind.value}, but some programs take it for a folder.")
        target = names.get(b"linkpath") or names.get(_GNU_LINK) or header.target
        return Member(kind, path, target, header, exact)


def _pax_names(data: bytes) -> dict[bytes, bytes]:
    """Return ``path`` and ``linkpath`` out of a PAX header's records, each ``<length> <keyword>=<value>``, newline."""
    names: dict[bytes, bytes] = {}
    at = 0
    for _ in range(MAX_PAX_RECORDS + 1):
        if at == len(data):
            return names
        length, _, _ = data[at : at + 6].partition(b" ")
        end = at + int(length) if length.isdigit() and length[0] != ord("0") else 0
        keyword, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not equals or not keyword:
            raise ArchiveCorrupt(f"A PAX header has a malformed record: {data[at : at + 40]!r}.")
        if keyword in _REFUSED_KEYWORDS or keyword.startswith(_SPARSE_KEYWORDS):
            raise ArchiveUnsupported(f"A PAX header has the keyword {shown(keyword)}; programs differ in what it does.")
        if keyword in {b"path", b"linkpath"}:
            if keyword in names or not value:
                raise ArchiveUnsupported(f"A PAX header has {shown(keyword)} twice or empty; programs differ on that.")
            names[keyword] = value
        at = end
    raise ArchiveUnsupported(f"A PAX header has more than {MAX_PAX_RECORDS} records.")
