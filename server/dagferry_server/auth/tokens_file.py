"""Adds entries to a tokens file and removes them, by the server's own rules of what such a file may contain."""

from collections.abc import Callable
from typing import cast

from dagferry_runtime import tokens_file
from dagferry_server.auth.tokens import Token, Tokens, parse_tokens


def read_tokens(path: str) -> Tokens:
    """Return the content of the file, with or without users; raise ``SetupError`` if it cannot be used."""
    return tokens_file.read_tokens(path, _parse)


def add_entry(path: str, entry: str) -> None:
    """Add an entry to the array of tokens; a missing file is created, readable only by its owner."""
    tokens_file.add_entry(path, entry, _parse)


def remove_entries(path: str, chosen: Callable[[Token], bool]) -> tuple[Token, ...]:
    """Remove the entries that are ``chosen``, each of which must be on a line of its own, and return them."""
    return cast("tuple[Token, ...]", tokens_file.remove_entries(path, chosen, _parse))


def _parse(data: bytes) -> Tokens:
    return parse_tokens(data, with_users=None)
