"""Texts that clients report about themselves, bounded, and without characters that do harm where they are shown."""

import re

MAX_NAME_CHARACTERS = 253
"""A longer instance or component is truncated; the name of a pod may be as long."""
MAX_VERSION_CHARACTERS = 63
MAX_ID_CHARACTERS = 64

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Also lone surrogates: bytes of a header that are not UTF-8 become such."""
_UNPRINTABLE_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str, most: int) -> str:
    """Return the first ``most`` characters of a text of one line, with ``?`` for what cannot be printed."""
    # It is shown on terminals, where control characters do harm.
    return _UNPRINTABLE.sub("?", text[:most])


def printable_lines(text: str) -> str:
    """Return a text of several lines with ``?`` for what can be printed neither as a letter, a tab nor a new line."""
    return _UNPRINTABLE_IN_LINES.sub("?", text)


def clean_lines(text: str, most: int) -> str:
    """Return the last ``most`` bytes, in UTF-8, of a text of several lines, cleaned like a text of one.

    Of a trace, the end says what happened.
    """
    cleaned = printable_lines(text[-most:].replace("\r\n", "\n").expandtabs(4))
    return cleaned.encode()[-most:].decode(errors="ignore")
