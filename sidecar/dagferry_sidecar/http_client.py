"""Imports ``http.client`` without ssl and email, which would take a quarter of a cold start (docs/adr/0026).

``http.client`` needs email to parse the headers of responses, and nothing else. Here that takes forty lines, and a test
holds that they find what email finds. ssl is imported where a URL is https. Both only in the sidecar's own process.
"""

import io
import sys
from types import ModuleType


class Headers:
    """The headers of a response or request: what ``http.client`` and its callers use of ``email.message.Message``."""

    def __init__(self) -> None:
        self._items: list[tuple[str, str]] = []

    def add(self, name: str, value: str) -> None:
        """Add a header; a name may occur more than once."""
        self._items.append((name, value))

    def get_all(self, name: str, default: list[str] | None = None) -> list[str] | None:
        """Return all values of a header, whatever the case of its name; ``default`` if there is none."""
        return [value for key, value in self._items if key.lower() == name.lower()] or default

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header; ``default`` if there is none."""
        found = self.get_all(name)
        return found[0] if found else default

    def items(self) -> list[tuple[str, str]]:
        """Return all headers in their order."""
        return list(self._items)

    def keys(self) -> list[str]:
        """Return the names of all headers in their order."""
        return [name for name, _ in self._items]

    def __contains__(self, name: str) -> bool:
        return self.get_all(name) is not None

    __getitem__ = get


class Parser:
    """What ``http.client`` uses of ``email.parser.Parser``."""

    def __init__(self, _class: type[Headers]) -> None:
        self._class = _class

    def parsestr(self, text: str) -> Headers:
        """Read headers up to the first line that is not one, as email does.

        Skipped, also as there: a line with nothing before its colon, and one that starts a message of a mailbox.
        """
        headers = self._class()
        name = value = ""
        for line in io.StringIO(text, newline=""):  # lines end with \r\n, \r or \n, and keep their end
            if line[:1] in {" ", "\t"}:  # continues the line before
                value += line
                continue
            if name:
                headers.add(name, value.rstrip("\r\n"))
            name, colon, value = line.partition(":")
            if line.startswith("From "):
                name = ""
                continue
            if not colon or any(not "!" <= character <= "~" for character in name):
                return headers
            value = value.lstrip(" \t")
        if name:
            headers.add(name, value.rstrip("\r\n"))
        return headers


def import_http_client() -> None:
    """Import ``http.client`` as described above, unless it, or one of the two, was imported before."""
    names = ("ssl", "email", "email.parser", "email.message")
    if any(name in sys.modules for name in (*names, "http.client")):
        return
    email, parser, message = (ModuleType(name) for name in names[1:])
    email.__dict__.update(parser=parser, message=message)
    parser.__dict__.update(Parser=Parser)
    message.__dict__.update(Message=Headers)
    stands = dict(zip(names, (None, email, parser, message), strict=True))  # None: as if this Python had no ssl
    sys.modules.update(stands)  # type: ignore[arg-type]
    try:
        import http.client  # noqa: F401, PLC0415
    finally:
        for name in names:
            del sys.modules[name]
