"""Resolves the symbolic links of an archive to copies of the files they lead to.

A link is followed as Linux would follow it in the unpacked archive (path_resolution(7)), except that nothing outside
the archive exists: component by component, through other links, at most 40 of them. No link is ever created on disk.
"""

import enum
from collections.abc import Iterator, Mapping

from dagferry_core.archive.error_collector import COLLECTED_ERRORS, ErrorCollector
from dagferry_core.archive.errors import LinkRefused, TooManyFiles
from dagferry_core.archive.paths import check_length, quoted
from dagferry_core.limits import MAX_DEPTH, MAX_LINK_STEPS


class Node(enum.Enum):
    """What is at a path of the archive; ``IMPLIED`` is a folder without a member of its own."""

    FILE = "a file"
    FOLDER = "a folder"
    IMPLIED = "an implicit folder"
    LINK = "a link"
    EXCLUDED = "a path that the exclude rules match"


class Links:
    """The links of one archive.

    ``nodes`` says what is at each path; there is nothing below an excluded one. ``targets`` has the target of each path
    that is a link. ``root`` is the folder that becomes the bundle (``""`` for all): links elsewhere are ignored. A link
    must not leave the folder ``bounds``, which is ``root`` or one above it. Links that leave it, dangle or form a loop
    are refused.
    """

    __slots__ = ("_bounds", "_children", "_copies_left", "_ends", "_following", "_nodes", "_root", "_targets")

    def __init__(self, nodes: Mapping[str, Node], targets: Mapping[str, str], root: str, bounds: str) -> None:
        self._nodes = nodes
        self._targets = targets
        self._root = root
        self._bounds = bounds
        self._ends: dict[str, tuple[str, int]] = {}
        self._following: set[str] = set()
        self._children: dict[str, list[str]] = {}
        self._copies_left = 0

    def copies(self, max_copies: int, errors: ErrorCollector) -> Iterator[tuple[str, str]]:
        """Yield each path that the links add, with the path of the file that it copies; collect errors in links.

        A link to a folder adds everything below it, and nested links can multiply the paths without bound: raises
        ``TooManyFiles`` after ``max_copies`` files, folders and links below the links themselves.
        """
        if self._targets:
            for path, node in self._nodes.items():
                if node is not Node.EXCLUDED:
                    self._children.setdefault(path.rpartition("/")[0], []).append(path)
        self._copies_left = max_copies
        above = f"{self._root}/" if self._root else ""
        for link in self._targets:
            if link.startswith(above):
                try:
                    yield from self._walk(link, link, set())
                except COLLECTED_ERRORS as error:
                    errors.add(error)

    def _walk(self, path: str, original: str, inside: set[str]) -> Iterator[tuple[str, str]]:
        """Yield the files at and below ``path`` when it is a copy of ``original``.

        ``inside`` has the folders that are being copied.
        """
        check_length(path.removeprefix(f"{self._root}/"))
        end = original
        if self._nodes[original] is Node.LINK:
            end, _ = self._follow(original)
            if end in inside:
                raise LinkRefused(f"The link {quoted(original)} points to a folder that contains it.")
        if self._nodes.get(end) is Node.FILE:
            yield path, end
            return
        inside.add(end)
        for child in self._children.get(end, ()):
            self._copies_left -= 1
            if self._copies_left < 0:
                raise TooManyFiles(
                    "With the files that its links add, the archive has more files and folders than --max-files "
                    f"allows, at {quoted(path)}."
                )
            yield from self._walk(f"{path}/{child.rpartition('/')[2]}", child, inside)
        inside.discard(end)

    def _follow(self, link: str) -> tuple[str, int]:
        """Return where ``link`` leads in the end (``""``: the archive's top folder), and through how many links."""
        if link in self._ends:
            return self._ends[link]
        if link in self._following or len(self._following) == MAX_LINK_STEPS:
            raise LinkRefused(
                f"The link {quoted(link)} is part of a loop, or goes through more than {MAX_LINK_STEPS} links."
            )
        self._following.add(link)
        try:
            end, steps = self._resolve(link)
        finally:
            self._following.discard(link)
        if steps > MAX_LINK_STEPS:
            raise LinkRefused(f"The link {quoted(link)} goes through more than {MAX_LINK_STEPS} links.")
        if self._bounds not in {"", end} and not end.startswith(f"{self._bounds}/"):
            raise LinkRefused(
                f"The link {quoted(link)} leads out of the bundle: it points at {quoted(self._targets[link])}."
            )
        self._ends[link] = end, steps
        return end, steps

    def _resolve(self, link: str) -> tuple[str, int]:
        says = f"The link {quoted(link)} points at {quoted(self._targets[link])}"
        at = link.split("/")[:-1]
        steps = 1
        node = Node.FOLDER
        for component in self._components(link, says):
            if node is Node.FILE:
                raise LinkRefused(f"{says}, which treats the file {quoted('/'.join(at))} as a folder.")
            if component == "..":
                if not at:
                    raise LinkRefused(f"{says}, which is outside of the bundle.")
                at.pop()
            elif component not in {"", "."}:
                here = "/".join([*at, component])
                node = self._node(here, says)
                if node is Node.LINK:
                    here, more = self._follow(here)
                    steps += more
                    node = self._nodes.get(here, Node.FOLDER)
                at = here.split("/") if here else []
        return "/".join(at), steps

    def _components(self, link: str, says: str) -> list[str]:
        target = self._targets[link]
        if not target:
            raise LinkRefused(f"The link {quoted(link)} points at nothing.")
        if target.startswith("/"):
            raise LinkRefused(f"{says}, an absolute path.")
        components = target.split("/")
        # Bounds the work; from the deepest folder up to the top and down again takes no more, dags/ included.
        if len(components) > 2 * MAX_DEPTH + 1:
            raise LinkRefused(f"{says}, a path of more than {2 * MAX_DEPTH + 1} components.")
        return components

    def _node(self, path: str, says: str) -> Node:
        node = self._nodes.get(path)
        if node is None:
            raise LinkRefused(f"{says}, but {quoted(path)} is not in the archive.")
        if node is Node.EXCLUDED:
            raise LinkRefused(f"{says}, but {quoted(path)} is {node.value}.")
        return node
