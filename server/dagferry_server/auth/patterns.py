"""Patterns in tokens and rules: plain text in which ``*`` matches any characters, or none.

A pattern must match the whole text, and is case-sensitive. Regular expressions are not supported: the author of a rule
should not have to think of dots, anchors and backtracking.
"""


def matches(pattern: str, text: str) -> bool:
    """Return whether ``pattern`` matches all of ``text``. Takes time linear in the text for each ``*``."""
    first, *parts = pattern.split("*")
    if not parts:
        return pattern == text
    if not text.startswith(first):
        return False
    position = len(first)
    last = parts.pop()
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return text.endswith(last) and len(text) - len(last) >= position
