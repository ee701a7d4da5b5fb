"""Write what the docs take from the code that defines it: tables, the commands of ``dagferry``, its schemas.

``make docs`` writes it; ``python scripts/reference.py --check`` only checks that it is up to date.
"""

import functools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import alerts_reference
import chart_reference
import client_reference
import images_reference
from docs_tables import table

import dagferry_airflow.arguments
import dagferry_checker.errors
import dagferry_checker.settings
import dagferry_server.deploys.deployments_file
import dagferry_server.http.routes
import dagferry_server.metrics
import dagferry_server.settings
import dagferry_server.web.routes
import dagferry_sidecar.metrics
import dagferry_sidecar.settings
from dagferry_client.errors import ClientError
from dagferry_client.local.errors import LocalError
from dagferry_core import protocol
from dagferry_core.archive.errors import ArchiveError, BundleError
from dagferry_core.documentation import Audience
from dagferry_core.errors import DagferryError, SetupError, with_subclasses
from dagferry_follow.errors import SyncError
from dagferry_gate.errors import CheckFailed
from dagferry_runtime.settings import Setting
from dagferry_server.errors import RequestError, ServerError, StoreInUse
from dagferry_server.web.site import Site
from dagferry_sidecar.hints import HINTS

ALL_ERRORS = (
    DagferryError,
    *with_subclasses(
        ArchiveError,
        BundleError,
        RequestError,
        ServerError,
        ClientError,
        SyncError,
        CheckFailed,
        SetupError,
        LocalError,
    ),
)
"""In the order of the docs."""

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCHEMAS = DOCS / client_reference.FOLDER


def settings(known: Iterable[Setting]) -> str:
    """Return the table of a command's settings."""
    return table(
        ["flag", "variable", "default", "what"],
        [
            [f"`{s.flag}{' ' + s.metavar if s.metavar else ''}`", f"`{s.variable}`", s.shown_default, s.help]
            for s in known
        ],
    )


def _described(head: str, meanings: Mapping[str, str]) -> str:
    return table([head, "meaning"], [[f"`{name}`", meaning] for name, meaning in meanings.items()])


def errors(audience: Audience) -> str:
    """Return the table of the errors that ``audience`` meets."""
    return table(
        ["code", "HTTP status", "exit code", "what happened", "what to do next"],
        [
            [
                f"`{e.code}`",
                _status(e),
                e.exit_code,
                _what_happened(e),
                HINTS.get(e.code, e.default_hint),
            ]
            for e in ALL_ERRORS
            if e.audience is audience
        ],
    )


def _what_happened(error: type[DagferryError]) -> str:
    text = _first_paragraph(error.__doc__ or "")
    return (
        f"{text} The answer also has {', '.join(f'`{name}`' for name in error.detail_fields)}."
        if error.detail_fields
        else text
    )


def _status(error: type[DagferryError]) -> int | str:
    families = ClientError | SyncError | SetupError | StoreInUse | LocalError | CheckFailed
    return "" if issubclass(error, families) else error.status


def _first_paragraph(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


TABLES = {
    "server settings": lambda: settings(dagferry_server.settings.SETTINGS),
    "deployment settings": lambda: table(
        ["key", "flag", "what"], dagferry_server.deploys.deployments_file.documented()
    ),
    "sidecar settings": lambda: settings(dagferry_sidecar.settings.SETTINGS),
    "checker settings": lambda: settings(dagferry_checker.settings.SETTINGS),
    "bundle arguments": lambda: table(["argument", "default", "what"], dagferry_airflow.arguments.documented()),
    **{f"errors for {audience.value}": functools.partial(errors, audience) for audience in Audience},
    "server metrics": lambda: table(["metric", "type", "labels", "what"], dagferry_server.metrics.documented()),
    "alerts": lambda: table(["alert", "severity", "what happened"], alerts_reference.documented()),
    "chart values": lambda: table(["value", "default", "what"], chart_reference.documented()),
    "sidecar metrics": lambda: table(["metric", "type", "labels", "what"], dagferry_sidecar.metrics.documented()),
    **{
        f"packages of the {command} image": functools.partial(
            lambda command: table(["package", "version"], images_reference.documented(command)), command
        )
        for command in ("server", "sidecar")
    },
    "request headers": lambda: _described("header", protocol.REQUEST_HEADERS),
    "answer headers": lambda: _described("header", protocol.ANSWER_HEADERS),
    "media types": lambda: _described("media type", protocol.MEDIA_TYPES),
    "client options": lambda: table(["option", "what"], client_reference.common_options()),
    "client commands": client_reference.commands,
    "exit codes": lambda: table(["exit code", "meaning"], client_reference.exit_codes()),
    "pages": lambda: table(["page", "scope", "what"], dagferry_server.web.routes.documented(Site())),
    "endpoints": lambda: table(["endpoint", "scope", "listener", "what"], dagferry_server.http.routes.documented()),
}


def written(text: str) -> str:
    """Return a page with its tables as they must be."""
    return re.sub(
        r"(<!-- reference: ([a-z ]+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def main(arguments: Sequence[str]) -> int:
    """Write the tables, or with ``--check`` name the pages that are out of date; every table must be in some page."""
    pages = {page: page.read_text() for page in [*sorted(DOCS.rglob("*.md")), chart_reference.README]}
    new = {page: written(text) for page, text in pages.items()}
    new |= {SCHEMAS / name: text for name, text in client_reference.schemas().items()}
    new |= {copy: source.read_text() for copy, source in chart_reference.COPIES.items()}
    others = [*SCHEMAS.glob("*.json"), *filter(Path.exists, chart_reference.COPIES)]
    old = {**pages, **{path: path.read_text() for path in others}}
    stale = [str(path.relative_to(DOCS.parent)) for path in sorted({*new, *old}) if new.get(path) != old.get(path)]
    absent = [name for name in TABLES if not any(f"<!-- reference: {name} -->" in text for text in pages.values())]
    if "--check" in arguments:
        if stale or absent:
            sys.stderr.write(f"Out of date: {stale}; tables in no page: {absent}. Run: make docs\n")
        return int(bool(stale or absent))
    for path in old.keys() - new.keys():
        path.unlink()
    SCHEMAS.mkdir(exist_ok=True)
    for path, text in new.items():
        path.write_text(text)
    return int(bool(absent))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
