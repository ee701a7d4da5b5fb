"""Checks an uploaded archive and turns it into a manifest and one flat file of contents.

One pass: each byte is expanded, hashed and written once, and memory does not grow with the sizes of files. A result is
complete and checked; anything else raises an error of ``dagferry_core.archive.errors`` that names the member. The rules
are those of docs/reference/valid-bundle.md::

    with open(upload, "rb") as archive, open(scratch, "w+b") as spool:
        checked = check_archive(archive, spool, ArchiveRules())
        spool.seek(checked.offsets["my_dag.py"])
        content = spool.read(checked.manifest.files["my_dag.py"].size)
"""

import os
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from dagferry_core.archive.ahead import expand_ahead
from dagferry_core.archive.compression import Stream, expand
from dagferry_core.archive.contents import Contents
from dagferry_core.archive.errors import BundleEmpty
from dagferry_core.archive.meter import Meter
from dagferry_core.archive.name_warnings import name_warnings, wrong_level
from dagferry_core.archive.paths import DEFAULT_EXCLUDES, Excludes, case_collisions, quoted
from dagferry_core.archive.tar import members
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.limits import MAX_EXPANDED_BYTES, MAX_FILES


class ArchiveRules(NamedTuple):
    """The settings of the check: bytes an archive may expand to, files and folders it may have, what is excluded."""

    max_expanded_bytes: int = MAX_EXPANDED_BYTES
    max_files: int = MAX_FILES
    exclude: tuple[str, ...] = DEFAULT_EXCLUDES
    allow_empty: bool = False


class CheckedArchive(NamedTuple):
    """The content of a valid archive.

    ``offsets`` says where in the spool each file's content starts. ``excluded`` are the first paths, as the archive
    has them, that the exclude rules matched, and ``excluded_files`` is the number of all excluded files.
    """

    manifest: Manifest
    offsets: dict[str, int]
    warnings: list[str]
    excluded: list[str]
    excluded_files: int


def check_archive(
    upload: BinaryIO,
    spool: BinaryIO,
    rules: ArchiveRules,
    *,
    root: str | None = None,
    under: str = "",
    when_large: Callable[[], object] = lambda: None,
) -> CheckedArchive:
    """Check the whole archive ``upload`` and append the contents of its files to ``spool``.

    Both are buffered binary files; ``upload`` is read from its start. The bundle is what lies under the folder
    ``root``, a path that ``check_path`` returned, or ``"."`` for all of the archive; with ``None``, a top folder
    ``dags/`` that holds all members, and else all. It will be the folder ``under`` (such as ``team-a/``) of a larger
    bundle, and warnings name its files so. ``when_large`` is called when the archive turns out to have more than
    ``LARGE_FILES`` files and folders. Raises the errors under ``ArchiveError`` and ``BundleError``; the content of the
    spool is useless then.
    """
    upload_bytes = upload.seek(0, os.SEEK_END)
    upload.seek(0)
    excludes = Excludes(rules.exclude)
    with expand_ahead(expand(upload)) as pieces:
        meter = Meter(Stream(pieces).read, upload_bytes, rules.max_expanded_bytes)
        contents = Contents(
            spool, meter, max_files=rules.max_files, excludes=excludes, root=root, when_large=when_large
        )
        for member in members(meter.read, rules.max_files):
            contents.add(member)
    folder, files = contents.finish()
    if not files and not rules.allow_empty:
        where = f"no files in {quoted(folder)}" if root and folder else "no files"
        left = f" ({contents.excluded_files} were excluded)" if contents.excluded_files else ""
        raise BundleEmpty(f"The archive has {where}{left}.")
    manifest = Manifest(Entry(path, found.size, found.mode, found.sha256) for path, found in files.items())
    paths = [under + path for path in manifest.files]
    return CheckedArchive(
        manifest=manifest,
        offsets={path: files[path].offset for path in manifest.files},
        warnings=[
            *(wrong_level(manifest.files) if root is None and not folder else ()),
            *name_warnings(paths),
            *case_collisions(paths),
        ],
        excluded=contents.excluded,
        excluded_files=contents.excluded_files,
    )
