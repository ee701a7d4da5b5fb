"""Trees in memory, as the gate sees them: a manifest, and a way to read contents."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest


class Tree(NamedTuple):
    """A tree that notes which contents were opened, by path."""

    contents: Mapping[str, bytes]
    files: Mapping[str, Entry]
    opened: list[str]

    def open_content(self, entry: Entry) -> RangeRead:
        """Return what reads the content of an entry."""
        self.opened.append(entry.path)
        data = self.contents[entry.path]

        def read(offset: int, size: int) -> bytes:
            assert min(offset, size) >= 0
            assert offset + size <= len(data)
            return data[offset : offset + size]

        return read


def tree(contents: Mapping[str, str | bytes]) -> Tree:
    """Return a tree with these files."""
    data = {path: content.encode() if isinstance(content, str) else content for path, content in contents.items()}
    entries = (Entry(path, len(content), 0o644, hashlib.sha256(content).hexdigest()) for path, content in data.items())
    return Tree(data, Manifest(entries).files, [])
