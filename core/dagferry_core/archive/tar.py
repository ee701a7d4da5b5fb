"""Reads the members of a tar, strictly: what different programs could read differently is an error.

The formats are those of POSIX pax(1), "ustar Interchange Format" and "pax Interchange Format", and GNU's with long
names. Sizes come from the header, and a PAX size may only repeat it, so no two readers can disagree where the next
member starts (CVE-2025-62518). ``tarfile`` is not used: it mistakes a corrupt header in the middle for the end, and
holds extended headers of any size in memory.

Paths and targets leave here as the bytes of the archive; ``paths`` decides which are allowed, ``contents`` what is
kept.
"""

import enum
from collections.abc import Callable, Iterator

from dagferry_core.archive.errors import (
    ArchiveCorrupt,
    ArchiveNotRecognized,
    ArchiveTrailingData,
    ArchiveTruncated,
    ArchiveUnsupported,
    MemberTypeRefused,
    TooManyFiles,
)
from dagferry_core.archive.kinds import kind_of
from dagferry_core.archive.paths import quoted
from dagferry_core.archive.tar_header import BLOCK_BYTES, SIZE, Header, begins_tar, parse_header, pax_names
from dagferry_core.limits import (
    MAX_EXTENSIONS_PER_MEMBER,
    MAX_LONG_NAME_BYTES,
    MAX_PAX_HEADER_BYTES,
    PIECE_BYTES,
)

_ZEROS = bytes(BLOCK_BYTES)

_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = b"x", b"g", b"L", b"K"
_EXTENSIONS = {
    _PAX: MAX_PAX_HEADER_BYTES,
    _PAX_GLOBAL: MAX_PAX_HEADER_BYTES,
    _GNU_NAME: MAX_LONG_NAME_BYTES,
    _GNU_LINK: MAX_LONG_NAME_BYTES,
}
_NOT_SUPPORTED = {b"S": "a sparse file", b"M": "the continuation of a file from another volume"}


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"


_OLD_FILE = b"\0"
_KINDS = {b"0": Kind.FILE, _OLD_FILE: Kind.FILE, b"1": Kind.HARD_LINK, b"2": Kind.SYMLINK, b"5": Kind.FOLDER}


class Member:
    """One member: kind, path and target as bytes of the archive, mode bits, size of the content in bytes."""

    __slots__ = ("_exact", "_unread", "kind", "mode", "path", "size", "target")

    def __init__(self, kind: Kind, path: bytes, target: bytes, header: Header, exact: Callable[[int], bytes]) -> None:
        self.kind = kind
        self.path = path
        self.target = target
        self.size = header.size
        self.mode = header.mode
        self._unread = header.size
        self._exact = exact

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most ``PIECE_BYTES``. The next member skips what is left of it."""
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
    block = _first_block(read)
    while block != _ZEROS:
        header = parse_header(block)
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
        if header.kind not in _EXTENSIONS:
            member = extension.member(header, exact)
            extension = _Extension()
            yield member
            for _ in member.chunks():
                pass
            exact(-member.size % BLOCK_BYTES)
        block = exact(BLOCK_BYTES)
    # git writes an empty tree as a global header alone; behind members, tarfile refuses one.
    if extension.names or (extension.count and found):
        raise ArchiveCorrupt("The tar ends after an extended header, without the member it belongs to.")
    _check_end(exact, read)


def _first_block(read: Callable[[int], bytes]) -> bytes:
    """Return the first block; raise ``ArchiveNotRecognized`` if that is not how a tar begins."""
    block = read(BLOCK_BYTES)
    if not block:
        raise ArchiveTruncated("The tar is empty.")
    if block.strip(b"\0") and not begins_tar(block):
        raise ArchiveNotRecognized(f"The compressed data is not a tar, but {kind_of(block)}.")
    if len(block) < BLOCK_BYTES:
        raise ArchiveTruncated("The tar ends in its first block.")
    return block


def _check_end(exact: Callable[[int], bytes], read: Callable[[int], bytes]) -> None:
    """After the first block of zeros: a second one, and then nothing but zeros, in whole blocks."""
    if exact(BLOCK_BYTES) != _ZEROS:
        raise ArchiveCorrupt("The tar has one block of zeros where two would mark its end.")
    size = 0
    while piece := read(PIECE_BYTES):
        if piece.strip(b"\0"):
            raise ArchiveTrailingData("Something follows the end marker of the tar.")
        size += len(piece)
    if size % BLOCK_BYTES:
        raise ArchiveTruncated("The tar does not end with a whole block.")


class _Extension:
    """What extended headers say about the next member. Each value may be given once."""

    __slots__ = ("count", "names")

    def __init__(self) -> None:
        self.count = 0
        # By the type of the header that says it; "path", "linkpath" and "size" by the keyword. _PAX itself: one was
        # seen.
        self.names: dict[bytes, bytes] = {}

    def add(self, header: Header, exact: Callable[[int], bytes]) -> None:
        """Read the content of one extended header."""
        kind, size = header.kind, header.size
        self.count += 1
        if self.count > MAX_EXTENSIONS_PER_MEMBER:
            raise ArchiveUnsupported(f"A member has more than {MAX_EXTENSIONS_PER_MEMBER} extended headers.")
        if size > _EXTENSIONS[kind]:
            raise ArchiveUnsupported(f"An extended header has {size} bytes; at most {_EXTENSIONS[kind]} are allowed.")
        if kind in self.names:
            raise ArchiveUnsupported("A member has two extended headers of one kind; programs differ in which counts.")
        data = exact(size)
        exact(-size % BLOCK_BYTES)
        if kind == _PAX_GLOBAL:
            if pax_names(data):
                raise ArchiveUnsupported("A global PAX header has a path or a size, for all members at once.")
        elif kind == _PAX:
            self.names.update(pax_names(data))
            self.names[_PAX] = b""
        else:
            name = data.rstrip(b"\0")
            if not name:
                raise ArchiveCorrupt("A GNU long name is empty.")
            self.names[kind] = name
        if {_GNU_NAME, b"path"} <= self.names.keys() or {_GNU_LINK, b"linkpath"} <= self.names.keys():
            raise ArchiveUnsupported("A member has a PAX and a GNU long name; programs differ in which counts.")

    def member(self, header: Header, exact: Callable[[int], bytes]) -> Member:
        """Return the member that ``header`` and what was added describe."""
        names = self.names
        path = names.get(b"path") or names.get(_GNU_NAME) or header.path
        size = names.get(SIZE)
        # In front of another extended header, some programs take it for the size of that one (GHSA-vmf3-w455-68vh).
        if size is not None and (size != b"%d" % header.size or self.count > 1):
            raise ArchiveUnsupported(
                f"The PAX header of {quoted(path)} says that its size is {quoted(size)}, its own header {header.size}."
                if self.count == 1
                else f"{quoted(path)} has a PAX header with a size and another extended header."
            )
        kind = _KINDS.get(header.kind)
        if header.kind in _NOT_SUPPORTED:
            raise ArchiveUnsupported(f"{quoted(path)} is {_NOT_SUPPORTED[header.kind]}.")
        if kind is None:
            raise MemberTypeRefused(
                f"{quoted(path)} is a device, a FIFO, a socket or of an unknown type ({header.kind!r}); "
                "only files, folders and links may be in the archive."
            )
        if kind is not Kind.FILE and header.size:
            raise ArchiveUnsupported(f"{quoted(path)} is a {kind.value} with a size; some programs read content there.")
        # tarfile makes a folder of an old file by its short name alone (CVE-2025-13462). In files of the newer type a
        # long name may be cut there anywhere.
        folder_to_some = path.endswith(b"/") or (header.kind == _OLD_FILE and header.path.endswith(b"/"))
        if kind is not Kind.FOLDER and folder_to_some:
            raise ArchiveUnsupported(f"{quoted(path)} is a {kind.value}, but some programs take it for a folder.")
        target = names.get(b"linkpath") or names.get(_GNU_LINK) or header.target
        if target and kind in {Kind.SYMLINK, Kind.HARD_LINK} and not header.target:
            raise ArchiveUnsupported(
                f"{quoted(path)} is a {kind.value} whose own header has no target; bsdtar makes an empty file of it."
            )
        return Member(kind, path, target, header, exact)
