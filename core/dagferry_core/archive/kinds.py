"""Names what some bytes are that should be something else, for error messages."""

import re

_KINDS = {
    b"\x1f\x8b": "a gzip",
    b"\x28\xb5\x2f\xfd": "a zstd",
    b"PK": "a zip file",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
}
_HTML = re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE)
_NOT_TEXT = re.compile(rb"[^\t\n\f\r\x1b -\x7e\x80-\xff]")
SHOWN_BYTES = 40


def kind_of(head: bytes) -> str:
    """Return what something is, detected from its first bytes, to follow "but" in a message."""
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            return kind
    if _HTML.match(head):
        return "an HTML page, such as the login page of a proxy"
    if head and not _NOT_TEXT.search(head):
        text = head[:SHOWN_BYTES].decode(errors="replace")
        # Its last letter may be cut.
        return "something else" if "\ufffd" in text[:-1] else f"text that begins with {text!r}"
    return "something else"
