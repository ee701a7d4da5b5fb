"""Patterns in tokens and rules: plain text in which ``*`` stands for any run of characters, also none.

A pattern describes the whole of a text, never a part of it, and letters match as they are written. No regular
expressions: whoever writes a rule should not have to think of dots, anchors and backtracking.
"""


def matches(pattern: str, text: str) -> bool:
    """Tell whether ``pattern`` describes the whole of ``text``. Takes time linear in the text for each ``*``."""
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
