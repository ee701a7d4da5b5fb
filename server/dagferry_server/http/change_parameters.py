"""What the query and the form of an upload say about the tree: which part it is, and what it is a change of."""

import json
from collections.abc import Iterable, Mapping

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import Excludes, check_prefix, quoted
from dagferry_core.names import is_digest, version_sequence
from dagferry_core.protocol import BASE, EXPECTED_DIGEST, MAX_REMOVED_BYTES, REMOVED, ROOT, UNDER
from dagferry_server.deploys.request import Change
from dagferry_server.errors import RequestError

_SHOWN_CHARACTERS = 100


def parse_under(text: str) -> str:
    """Return a folder as the prefix of the paths in it (``team-a/``); ``RequestError`` if it cannot be one."""
    if not text:  # an unset variable in a script must not choose what is replaced
        raise RequestError(
            f"{UNDER} is empty. It is a folder such as team-a/; without {UNDER}, the request is for all."
        )
    try:
        return check_prefix(text)
    except PathRefused as error:
        raise RequestError(f"{UNDER}={text[:_SHOWN_CHARACTERS]!r} cannot be a folder. {error.message}") from error


def under_of(query: Mapping[str, str]) -> str:
    """Return the folder that an upload is to replace, as the prefix of the paths in it; ``""`` if it is all of it."""
    return parse_under(query[UNDER]) if UNDER in query else ""


def refuse_excluded(under: str, exclude: Iterable[str]) -> None:
    """Raise ``RequestError`` if exclude rules match a folder: in a complete upload, it would be skipped."""
    if under and (top := Excludes(exclude).excluded(under.removesuffix("/"), folder=True)):
        raise RequestError(
            f"{UNDER}={under[:_SHOWN_CHARACTERS]!r} is a folder that the server excludes: {quoted(top)}.",
            "Choose another folder, or ask the server's operator to change --exclude.",
        )


def change_of(query: Mapping[str, str]) -> Change | None:
    """Return what an upload is a change of, ``None`` if it is complete; raise ``RequestError`` if that is unclear."""
    base, digest = query.get(BASE), query.get(EXPECTED_DIGEST)
    if base is None and digest is None:
        return None
    if base is None or digest is None:
        raise RequestError(
            f"{BASE} and {EXPECTED_DIGEST} belong together: the version that the upload is a change of, and the digest "
            "of the tree that must come out."
        )
    if ROOT in query:
        raise RequestError(
            f"{ROOT} is for complete uploads: with {BASE}, the archive has the files at their own paths."
        )
    try:
        version_sequence(base)
    except ValueError as error:
        raise RequestError(f"{BASE}: {str(error)[:_SHOWN_CHARACTERS]}.") from error
    if not is_digest(digest):
        raise RequestError(
            f"{EXPECTED_DIGEST}={digest[:_SHOWN_CHARACTERS]!r} is not sha256: and 64 hexadecimal digits."
        )
    return Change(base, digest)


def with_removed(change: Change | None, text: bytes | None) -> Change | None:
    """Return a change with the paths in the form field ``removed``; ``RequestError`` if it is for no change."""
    if text is None:
        return change
    if change is None:
        raise RequestError(
            f"The form field {REMOVED} is for an upload with {BASE}; a complete upload removes all that it lacks."
        )
    return change._replace(removed=parse_removed(text))


def parse_removed(text: bytes) -> tuple[str, ...]:
    """Return the paths in the form field ``removed``, a JSON list; ``RequestError`` if it is anything else."""
    if len(text) > MAX_REMOVED_BYTES:
        raise RequestError(
            f"The form field {REMOVED} has more than {MAX_REMOVED_BYTES:,} bytes.", "Upload the complete tree instead."
        )
    try:
        paths = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError("The form field removed is not JSON; it should be a list of paths.") from error
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise RequestError("The form field removed should be a JSON list of paths.")
    if len(set(paths)) < len(paths):
        raise RequestError("The form field removed has a path twice.")
    return tuple(paths)
