"""What a checkout cannot keep in its files, from Git's own records: modes and links on Windows, and line ends.

A bundle has to be the same from every machine. Where the file system has no executable bit (``core.fileMode`` is
false, as on Windows), Git's index says which files are executable, and 0644 is the mode of all others. Where it has no
links (``core.symlinks`` is false), a link is a file with its target as the content, and the index says which.
"""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dagferry_client.local.folder import checkout
from dagferry_client.local.git import GitFailed, run_git

MAX_CRLF_FILES = 50
MAX_CRLF_BYTES = 4096
"""How many files are looked at for Windows' line ends, and how much of each."""

LINE_ENDS = (
    "Git changes line ends in this checkout (core.autocrlf is true), so these files differ from the repository's, and "
    "each deploy from another machine changes them all. To keep them as they are, add the line '* text=auto eol=lf' to "
    ".gitattributes and check the files out again."
)
"""The warning about them."""

_EXECUTABLE, _LINK = b"100755", b"120000"


class Checkout(NamedTuple):
    """What to know about the files of a checkout, by their absolute paths.

    ``executable`` is ``None`` where the file system has modes. ``links`` are links that look like files. ``autocrlf``
    says that Git changes line ends here.
    """

    executable: frozenset[str] | None = None
    links: frozenset[str] = frozenset()
    autocrlf: bool = False


def read_checkout(folder: str, *, windows: bool = os.name == "nt") -> Checkout:
    """Return what Git knows of the files in ``folder`` (without links), which need not be in a checkout."""
    without_git = Checkout(executable=frozenset() if windows else None)
    top = checkout(folder)
    if not top:
        return without_git
    try:
        config = parse_config(run_git(folder, "config", "--get-regexp", "-z", r"^core\.(filemode|symlinks|autocrlf)$"))
    except GitFailed:  # also if none is set
        return without_git
    modes = config.get("filemode") != "false" and not windows
    links = config.get("symlinks") != "false"
    autocrlf = config.get("autocrlf") == "true"
    if modes and links:
        return Checkout(autocrlf=autocrlf)
    try:
        index = parse_index(run_git(folder, "ls-files", "--stage", "-z", "--full-name"), top)
    except GitFailed:
        index = Index(frozenset(), frozenset())
    return Checkout(None if modes else index.executable, frozenset() if links else index.links, autocrlf)


class Index(NamedTuple):
    """The absolute paths of the executable files and the links in Git's index."""

    executable: frozenset[str]
    links: frozenset[str]


def parse_index(output: bytes, top: str, join: Callable[..., str] = os.path.join) -> Index:
    """Read the output of ``git ls-files --stage -z`` for the checkout ``top``; ``join`` is that of the system."""
    found: dict[bytes, set[str]] = {_EXECUTABLE: set(), _LINK: set()}
    for line in output.split(b"\0"):
        facts, _, path = line.partition(b"\t")
        mode = facts.partition(b" ")[0]
        if mode in found:
            found[mode].add(join(top, *os.fsdecode(path).split("/")))
    return Index(frozenset(found[_EXECUTABLE]), frozenset(found[_LINK]))


def parse_config(output: bytes) -> dict[str, str]:
    """Read the output of ``git config --get-regexp -z`` for values in ``core``; the last of a name counts."""
    lines = [line.partition("\n") for line in output.decode(errors="replace").split("\0") if line]
    return {name.lower().removeprefix("core."): value.strip().lower() for name, _, value in lines}


def line_end_warnings(sources: Iterable[str]) -> list[str]:
    """Return a warning if one of the files, of which some are looked at, has the line ends of Windows."""
    for number, source in enumerate(sources):
        if number == MAX_CRLF_FILES:
            break
        try:
            with open(source, "rb") as file:
                found = b"\r\n" in file.read(MAX_CRLF_BYTES)
        except OSError:
            continue
        if found:
            return [LINE_ENDS]
    return []
