"""How a deploy is shown to a person: in a row of a table, and what changed in lines."""

from collections.abc import Mapping, Sequence

from dagferry_client.deploy_log import Deployed, Details, LoggedDeploy
from dagferry_client.output import Cell, Output, Styled

ADDED, CHANGED, REMOVED = "A", "M", "D"
"""The letters of git for what happened to a file."""
STYLES = {ADDED: "green", CHANGED: "yellow", REMOVED: "red"}
COMMIT_CHARACTERS = 12


def kind(deploy: LoggedDeploy) -> str:
    """Return what was done, in words: ``rollback to 20261120T064501Z-000042``."""
    link = {"rollback": "to", "promote": "of"}.get(deploy.kind, "of")
    return f"{deploy.kind} {link} {deploy.source}" if deploy.source else deploy.kind


def git(found: Mapping[str, str] | None) -> str:
    """Return commit and branch: ``4f2a91c07b1d (main)``; empty if they are not known."""
    if not found:
        return ""
    commit, branch = found.get("commit", "")[:COMMIT_CHARACTERS], found.get("branch", "")
    return f"{commit} ({branch})" if commit and branch else commit or branch


def counts(added: int, changed: int, removed: int) -> str:
    """Return ``+1 ~2 -0``: how many files were added, changed and removed."""
    return f"+{added} ~{changed} -{removed}"


def in_words(added: int, changed: int, removed: int) -> str:
    """Return ``1 file added, 2 changed, 0 removed``."""
    return f"{added} file{'s' * (added != 1)} added, {changed} changed, {removed} removed"


def path_lines(found: Deployed | Details) -> list[tuple[Cell, ...]]:
    """Return a line for each path that was added, changed or removed."""
    changes = ((ADDED, found.added_paths), (CHANGED, found.changed_paths), (REMOVED, found.removed_paths))
    lines: list[tuple[Cell, ...]] = [
        (Styled(letter, STYLES[letter]), f"  {path}") for letter, paths in changes for path in paths
    ]
    return [*lines, ("and more: the list is cut.",)] if found.cut else lines


def table(output: Output, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table without the columns in which no row has anything."""
    filled = [column for column in range(len(head)) if any(text_of(row[column]) for row in rows)]
    output.table([head[column] for column in filled], [[row[column] for column in filled] for row in rows])


def text_of(cell: Cell) -> str:
    """Return the text of a cell."""
    return cell.text if isinstance(cell, Styled) else cell
