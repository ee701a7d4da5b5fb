"""``dagferry diff A [B]``: which files differ between two versions, or between a folder here and what is deployed."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import click

from dagferry_client.compare import BINARY, LARGE, MANY, Compared, Difference, FileState, compare
from dagferry_client.describe import ADDED, CHANGED, REMOVED, STYLES, in_words
from dagferry_client.output import Output, Styled, size
from dagferry_client.run import Run, sub_command
from dagferry_client.sides import Differences, FolderSide, Side, VersionSide, differences
from dagferry_client.versions import current, find_version, is_version
from dagferry_core.errors import SetupError

MAX_COMPARED_FILES = 1000
"""How many files --content compares: each takes one or two requests."""

_LETTERS = {"added": ADDED, "changed": CHANGED, "removed": REMOVED}
_WHY = {
    BINARY: "not text",
    LARGE: "too large to compare",
    MANY: f"not compared: only the first {MAX_COMPARED_FILES} are",
}
_LINE_STYLES = {"+": "green", "-": "red", "@": "cyan"}


class FileDiff(NamedTuple):
    """One file that differs; ``status`` is added, changed or removed.

    ``diff`` is the unified diff of the contents. Without it, ``omitted`` says why, if it was asked for: binary, large,
    or many, if too many files differ.
    """

    path: str
    status: str
    old: FileState | None
    new: FileState | None
    diff: str | None
    omitted: str | None


class DiffReport(NamedTuple):
    """What differs; ``old`` and ``new`` are versions, or the folder on this machine. ``cut``: files are missing."""

    deployment: str
    old: str
    new: str
    files: list[FileDiff]
    cut: bool


@sub_command(
    click.argument("old", metavar="A"),
    click.argument("new", metavar="[B]", required=False),
    click.option("--content", is_flag=True, help="Show what changed in the files, as a diff that git apply can apply."),
    examples=(
        "dagferry diff 41 42 -d prod",
        "dagferry diff 41 --content",
        "dagferry diff dags/",
        "dagferry diff 42 41 --content > undo.patch",
    ),
    prints=(DiffReport,),
)
def command(run: Run, *, old: str, new: str | None, content: bool) -> None:
    """Show which files differ between two versions.

    A and B are versions: a name, a number, or how a name begins. Without B, A is compared with the current version. One
    of them may be a dags folder, or a project that has one: without B it is compared with the current version, to show
    what a deploy of it would change. A folder whose name looks like a version is written ./42.
    """
    output = run.output
    found = _differences(run, old, new)
    if output.json_wanted:
        output.json(_report(run.deployment, found, content=content))
    elif content:
        for difference, compared in _compared(found):
            _show_content(output, difference, compared)
    else:
        _show(output, run.deployment, found)
    if found.cut:
        output.warn("More files differ: the server lists only the first ones.")


def _differences(run: Run, old: str, new: str | None) -> Differences:
    is_folder = [not is_version(text) for text in (old, new) if text is not None]
    if all(is_folder) and len(is_folder) > 1:
        raise SetupError(
            f"{old} and {new} are both not versions.",
            "Compare a folder with a version, or two versions. List them with: dagferry history",
        )
    api, deployment = run.api, run.deployment

    def side(text: str) -> Side:
        if is_version(text):
            return VersionSide(api, deployment, find_version(api, deployment, text))
        folder = FolderSide(text)
        for warning in folder.warnings:
            run.output.warn(warning)
        return folder

    given = side(old)
    live = functools.partial(VersionSide, api, deployment)
    if new is not None:
        return differences(api, deployment, given, side(new))
    if isinstance(given, FolderSide):
        return differences(api, deployment, live(current(api, deployment).version), given)
    return differences(api, deployment, given, live(current(api, deployment).version))


def _compared(found: Differences) -> Iterator[tuple[Difference, Compared]]:
    """Yield each difference with that of the contents; they are asked for one after another."""
    for number, difference in enumerate(found.files):
        if difference.same_content:
            yield difference, Compared([])
        elif number >= MAX_COMPARED_FILES:
            yield difference, Compared([], MANY)
        elif difference.is_large:
            yield difference, Compared([], LARGE)
        else:
            old = found.old.read(difference.path) if difference.old else b""
            new = found.new.read(difference.path) if difference.new else b""
            yield difference, compare(difference, old, new)


def _report(deployment: str, found: Differences, *, content: bool) -> DiffReport:
    compared = _compared(found) if content else ((difference, None) for difference in found.files)
    files = [
        FileDiff(
            difference.path,
            difference.status,
            difference.old,
            difference.new,
            "".join(f"{line}\n" for line in done.lines) if done and not done.omitted else None,
            (done.omitted or None) if done else None,
        )
        for difference, done in compared
    ]
    return DiffReport(deployment, found.old.name, found.new.name, files, found.cut)


def _show(output: Output, deployment: str, found: Differences) -> None:
    output.line(f"{deployment}: {found.old.name} -> {found.new.name}")
    for difference in found.files:
        letter = _LETTERS[difference.status]
        output.styled(Styled(letter, STYLES[letter]), f"  {difference.path}  {_sizes(difference)}")
    counted = [sum(difference.status == status for difference in found.files) for status in _LETTERS]
    output.line(f"{in_words(*counted)}." if found.files else "There is no difference.")


def _sizes(difference: Difference) -> str:
    old, new = difference.old, difference.new
    if old and new:
        if difference.same_content:
            return f"mode {old.mode:04o} -> {new.mode:04o}"
        return f"{size(old.size)} -> {size(new.size)}"
    found = old or new
    return size(found.size) if found else ""


def _show_content(output: Output, difference: Difference, compared: Compared) -> None:
    """Print the diff of a file, in the form of git."""
    path, old, new = difference.path, difference.old, difference.new
    head = [f"diff --git a/{path} b/{path}"]
    if old is None:
        head.append(f"new file mode {_git_mode(new)}")
    elif new is None:
        head.append(f"deleted file mode {_git_mode(old)}")
    elif old.mode != new.mode:
        head += [f"old mode {_git_mode(old)}", f"new mode {_git_mode(new)}"]
    if compared.omitted:
        head.append(f"Contents of {path} differ ({_WHY[compared.omitted]})")
    output.text(Styled(line, "bold") for line in head)
    output.text(
        Styled(line, "bold" if number < 2 else _LINE_STYLES.get(line[:1], ""))  # noqa: PLR2004 - the two file names
        for number, line in enumerate(compared.lines)
    )


def _git_mode(state: FileState | None) -> str:
    return f"100{state.mode:o}" if state else ""
