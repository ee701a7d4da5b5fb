"""A tree: the complete content that a deploy would make current, wherever its bytes lie."""

from collections.abc import Callable
from typing import NamedTuple

from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import BundleFile


class Tree(NamedTuple):
    """A manifest, and what reads the content of each of its files at any place.

    ``name`` is what an error calls it. ``bundles`` are open bundles that have some of its files: frames and the results
    of scans can be taken from them. ``stored_in`` is the deployment that has an intact bundle of it, if that is known.
    ``warnings`` are about its content; those of an upload's files are known before.
    """

    name: str
    manifest: Manifest
    open_content: Callable[[Entry], RangeRead]
    bundles: tuple[BundleFile, ...] = ()
    stored_in: str = ""
    warnings: tuple[str, ...] = ()
