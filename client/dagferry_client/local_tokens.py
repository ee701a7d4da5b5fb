"""Reads a tokens file on this machine, to list and edit it. A server is stricter about what it accepts.

Everything that is not understood is kept to be compared, so that an edit never loses it.
"""

import re
import sys
from datetime import datetime
from typing import Any, NamedTuple

from dagferry_core.errors import SetupError
from dagferry_core.tokens import ShownToken, in_order

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SHAPE = """It must look like this:
tokens = [
  { name = "ci", sha256 = "…", scopes = ["deploy"], deployments = ["prod"] },
]"""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LocalToken(NamedTuple):
    """One token of the file, and all of its entry."""

    shown: ShownToken
    entry: dict[str, Any]


class LocalTokens(NamedTuple):
    """The tokens of a file, and everything else that is in it."""

    tokens: tuple[LocalToken, ...]
    rest: dict[str, Any]


def parse_local(data: bytes) -> LocalTokens:
    """Parse a tokens file; raise ``SetupError`` if it is not one."""
    try:
        rest = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # includes invalid UTF-8
        raise SetupError(f"The tokens file is not valid TOML: {error}.", _SHAPE) from None
    entries = rest.pop("tokens", None)
    if not isinstance(entries, list):
        raise SetupError("The tokens file has no list of tokens.", _SHAPE)
    return LocalTokens(tuple(_token(number, entry) for number, entry in enumerate(entries)), rest)


def _token(number: int, entry: object) -> LocalToken:
    """Return an entry; an error never shows a value, which may be a secret in the wrong place."""
    if not isinstance(entry, dict):
        raise SetupError(f"tokens.{number} of the tokens file is not a table.", _SHAPE)
    name, sha256, expires = entry.get("name"), entry.get("sha256"), entry.get("expires")
    lists = {key: entry.get(key, []) for key in ("scopes", "deployments", "prefixes")}
    checks = {
        "name": isinstance(name, str),
        "sha256": isinstance(sha256, str) and _SHA256.fullmatch(sha256) is not None,
        "expires": expires is None or (isinstance(expires, datetime) and expires.tzinfo is not None),
        **{key: _is_texts(value) for key, value in lists.items()},
    }
    wrong = [key for key, is_right in checks.items() if not is_right]
    if wrong:
        raise SetupError(f"tokens.{number} of the tokens file has no valid {wrong[0]}.", _SHAPE)
    moment = expires.timestamp() if isinstance(expires, datetime) else None
    shown = ShownToken(
        str(sha256), str(name), in_order(lists["scopes"]), lists["deployments"], moment, lists["prefixes"]
    )
    return LocalToken(shown, entry)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
