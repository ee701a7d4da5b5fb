"""What the gate found in one file, and where: the type that all of its parts share."""

from typing import NamedTuple

MAX_MESSAGE_CHARACTERS = 200


class Problem(NamedTuple):
    """Why Airflow could not read a file. ``line`` and ``column`` count from 1, columns in characters."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


def printable(text: str) -> str:
    """Return ``text`` in one line of bounded length: it may repeat what a file has."""
    if len(text) > MAX_MESSAGE_CHARACTERS:
        text = text[:MAX_MESSAGE_CHARACTERS] + "…"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
