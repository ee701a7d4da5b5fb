"""Where the documentation is. Hints link to it, because an installed package has no docs folder."""

DOCUMENTATION = "https://github.com/dagferry/dagferry/blob/main/docs"
"""Followed by the path of a page in ``docs/``, such as ``/reference/protocol.md#endpoints``; a test follows each."""
