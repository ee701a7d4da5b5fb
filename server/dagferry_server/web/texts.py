"""How facts are written on a page: times, sizes, deploys; and texts of others, so that they show what they are.

Paths, descriptions and contents come from those who deploy. The templates escape them; here, characters that would make
a text look like another one become visible.
"""

import re
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from markupsafe import Markup

from dagferry_core.deploylog import PROMOTE, ROLLBACK, Deploy
from dagferry_core.names import version_sequence

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Controls, and characters without a glyph; those that change the direction of text hide code (CVE-2021-42574)."""
_UNITS = (
    (86400 * 365, "year", "years"),
    (86400 * 30, "month", "months"),
    (86400, "day", "days"),
    (3600, "h", "h"),
    (60, "min", "min"),
    (1, "s", "s"),
)
_KIB = 1024
_EXACT_FROM = 10
"""From this number on, sizes have no decimals."""
_FLAGS = {
    "skip_gate": "checks skipped",
    "allow_removals": "removals allowed",
    "override_freeze": "freeze overridden",
    "skip_import_check": "import check skipped",
    "repeated": "repeated",
}
COMMIT_CHARACTERS = 10


def shown(text: str) -> str:
    """Return a text with every invisible character as its number."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def has_hidden(text: str) -> bool:
    """Return whether ``shown`` would change a text."""
    return _HIDDEN.search(text) is not None


def ago(seconds: float) -> str:
    """Return how long ago something was, in its largest unit."""
    for length, one, several in _UNITS:
        if (number := int(seconds // length)) >= 1:
            return f"{number} {one if number == 1 else several} ago"
    return "just now"


def span(seconds: float) -> str:
    """Return a duration in its largest unit."""
    return ago(seconds).removesuffix(" ago") if seconds >= 1 else "0 s"


def utc(moment: float) -> str:
    """Return a time, in seconds since the epoch, as people write it."""
    return f"{datetime.fromtimestamp(moment, timezone.utc):%d %b %Y, %H:%M} UTC".lstrip("0")


def time_tag(moment: float, now: float) -> Markup:
    """Return a time as how long ago it was; its exact value is in the title, and the script keeps it current."""
    exact = f"{datetime.fromtimestamp(moment, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, ago(now - moment))


def size(number: float) -> str:
    """Return a number of bytes as people write it."""
    units = iter(("bytes", "KiB", "MiB", "GiB"))
    unit = next(units)
    while number >= _KIB and (larger := next(units, None)):
        number, unit = number / _KIB, larger
    return f"{number:.0f} {unit}" if number >= _EXACT_FROM or number == int(number) else f"{number:.1f} {unit}"


def count(number: int, one: str, several: str = "") -> str:
    """Return a number and the noun that fits."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


class ShownDeploy(NamedTuple):
    """A deploy as the pages show it; ``warnings`` is how many it has, ``None`` if that is not known."""

    sequence: int
    version: str
    time: int
    actor: str
    description: str
    kind: str
    source: str
    marks: list[str]
    under: str
    commit: str
    branch: str
    author: str
    url: str
    added: int
    changed: int
    removed: int
    warnings: int | None
    is_current: bool


def shown_deploy(deploy: Deploy, *, warnings: int | None, is_current: bool, new_import_errors: int = 0) -> ShownDeploy:
    """Return what the pages show of ``deploy``; ``new_import_errors`` is how many it brought, as far as is known."""
    git = deploy.git or {}
    marks = [_FLAGS.get(flag, shown(flag)) for flag in deploy.flags or ()]
    if new_import_errors:
        marks.append(count(new_import_errors, "new import error"))
    return ShownDeploy(
        deploy.sequence,
        deploy.version,
        deploy.time,
        shown(deploy.actor),
        shown(deploy.description),
        deploy.kind,
        _source(deploy),
        marks,
        shown(deploy.under),
        shown(git.get("commit", ""))[:COMMIT_CHARACTERS],
        shown(git.get("branch", "")),
        shown(git.get("author", "")),
        web_address(git.get("url", "")),
        deploy.added,
        deploy.changed,
        deploy.removed,
        warnings,
        is_current,
    )


def _source(deploy: Deploy) -> str:
    if deploy.kind == ROLLBACK:
        try:
            return f"rollback to #{version_sequence(deploy.source)}"
        except ValueError:
            return "rollback"
    return f"promoted from {shown(deploy.source)}" if deploy.kind == PROMOTE else ""


def web_address(url: str) -> str:
    """Return ``url`` if a link to it is harmless, so one of the web; else an empty text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    harmless = parts.scheme in {"http", "https"} and parts.hostname and not has_hidden(url) and "@" not in parts.netloc
    return url if harmless else ""


def path_url(path: str) -> str:
    """Return the path of a file as a URL has it."""
    return quote(path, safe="/")
