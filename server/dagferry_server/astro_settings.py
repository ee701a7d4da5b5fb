"""What ``--astro-cli`` and ``--public-url`` may be: a path that is free, and a URL that is safe to send."""

import re
from ipaddress import IPv6Address
from urllib.parse import urlsplit

MAX_PATH_CHARACTERS = 100
MAX_URL_CHARACTERS = 500
TAKEN = frozenset({"upload", "healthz", "readyz", "metrics", "openapi.json"})
"""First segments that are endpoints. What begins with ``/-/`` is excluded by the characters of a segment."""
DEPLOYMENT_FOLDER = "dags"
"""The second segment of every path of a deployment."""

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._~-]*"
_PATH = re.compile(rf"(?:/{_SEGMENT})+")
_URL = re.compile(
    rf"https?://(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?(?:/{_SEGMENT})*/?"
)


def astro_path(text: str) -> str:
    """Read the path of the endpoint for the ``astro`` CLI; ``ValueError`` if it is invalid, or belongs to others."""
    if len(text) > MAX_PATH_CHARACTERS or not _PATH.fullmatch(text):
        raise ValueError(
            "a path such as /astro is expected: segments of letters, digits, '.', '_', '~' and '-' that start with a "
            f"letter or digit, and at most {MAX_PATH_CHARACTERS} characters"
        )
    first, *others = text[1:].split("/")
    if first in TAKEN or others[:1] == [DEPLOYMENT_FOLDER]:
        raise ValueError("this path belongs to other endpoints of the server; /astro is usual")
    return text


def public_url(text: str) -> str:
    """Read the URL at which clients reach the server, without a slash at its end; ``ValueError`` if it is invalid."""
    expected = (
        "a URL such as https://dags.example.com or https://example.com/dagferry is expected, without user, query and "
        "fragment"
    )
    if len(text) > MAX_URL_CHARACTERS or not _URL.fullmatch(text):
        raise ValueError(expected)
    try:
        parts = urlsplit(text)
        is_valid = parts.port != 0  # the property raises above 65535
        if ":" in (parts.hostname or ""):
            IPv6Address(parts.hostname or "")
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(expected)
    return text.rstrip("/")
