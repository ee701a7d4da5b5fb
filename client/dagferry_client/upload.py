"""Sends a dags folder: the change from what the server has, or everything; and asks before much is removed.

Everything is sent if no base is known, and if the server cannot use the base: its bundle is gone (``base_gone``), or
what came out was not what was to be deployed (``change_mismatch``).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from dagferry_client.api import Api, DeployOptions
from dagferry_client.asking import can_ask, confirm
from dagferry_client.base import Base
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import ClientError, RequestRefused, ServerTooOld
from dagferry_client.form import Form
from dagferry_client.local.errors import OverUploadLimit
from dagferry_client.local.pack import Change, change_between, pack
from dagferry_client.local.tree import LocalTree
from dagferry_client.output import MAX_LISTED, Output, size
from dagferry_client.progress import bar
from dagferry_core.archive.paths import quoted
from dagferry_core.bundle.manifest import Entry
from dagferry_core.limits import MIB
from dagferry_core.protocol import BASE, DESCRIPTION, EXPECTED_DIGEST, GIT, MAX_GIT_BYTES, REMOVED, UNDER

ARCHIVE = "dags.tar.zst"
MIN_SHOWN_BYTES = MIB
"""Less is packed and sent before anybody could read how far it is."""
MIN_ASKED_BYTES = MIB
"""Before an archive of more bytes is sent, the server is asked for its limit."""
MAX_REMOVED_BYTES = 48 * 1024
"""The longest list of removed paths that is sent; a form may have 64 KiB beside its file."""
LARGEST_FILES = 5
_BASE_UNUSABLE = {
    "base_gone": "the server no longer has that version",
    "change_mismatch": "it does not lead to the content of this dags folder there",
    "request_invalid": "the server is too old",
}
"""Why everything is sent, by the code with which the server refused the change. A server that does not know uploads of
changes refuses the parameters, as any that it does not know."""
_REMOVALS = "removals_refused"


class Content(NamedTuple):
    """What is deployed: the tree, and what goes with it. ``under`` has a slash at its end, or is empty."""

    tree: LocalTree
    base: Base | None
    under: str
    description: str
    git: Mapping[str, str]


class Sent(NamedTuple):
    """What the server answered; ``sent_bytes`` is the size of the archive, ``whole`` whether it had everything."""

    deployed: Deployed
    sent_bytes: int
    whole: bool


class Uploader:
    """Uploads to ``deployment``; with ``yes``, removals are not asked about."""

    def __init__(self, api: Api, deployment: str, output: Output, *, yes: bool) -> None:
        self._api = api
        self._deployment = deployment
        self._output = output
        self._yes = yes

    def send(self, content: Content, options: DeployOptions) -> Sent:
        """Deploy ``content``; raise what the server refuses, and what packing raises."""
        try:
            return self._send(content, options)
        except RequestRefused as error:
            if error.reason != _REMOVALS or options.allow_removals or not self._may_remove(error):
                raise
        return self._send(content, options._replace(allow_removals=True))

    def _may_remove(self, error: RequestRefused) -> bool:
        if not self._yes and not can_ask(self._output):
            return False
        self._output.warn(error.message)
        paths = error.details.get("removed_paths", [])
        for path in paths[:MAX_LISTED]:
            self._output.warn(f"would be removed: {path}")
        if len(paths) > MAX_LISTED:
            self._output.warn(f"and {len(paths) - MAX_LISTED} more")
        if not self._yes:
            confirm(self._output, "Deploy nevertheless? This needs the scope override.")
        return True

    def _send(self, content: Content, options: DeployOptions) -> Sent:
        if content.base:
            change = change_between(content.base.manifest, content.tree.manifest)
            if len(_removed(change).encode()) <= MAX_REMOVED_BYTES:
                try:
                    return self._attempt(content, content.base.version, change, options)
                except ClientError as error:
                    if error.reason not in _BASE_UNUSABLE:
                        raise
                    self._output.say(
                        f"The change from {content.base.version} cannot be used: {_BASE_UNUSABLE[error.reason]}. "
                        "Sending everything."
                    )
        return self._attempt(content, "", None, options)

    def _attempt(self, content: Content, base: str, change: Change | None, options: DeployOptions) -> Sent:
        """Pack and send a change from the version ``base``, or everything."""
        files = content.tree.manifest.files
        paths = list(files) if change is None else change.changed
        query = {UNDER: content.under} if content.under else {}
        fields = {DESCRIPTION: content.description, GIT: fitting(content.git)}
        if change is not None:
            query |= {BASE: base, EXPECTED_DIGEST: content.tree.manifest.digest}
            fields[REMOVED] = _removed(change)
        with self._shown("Packing", sum(files[path].size for path in paths)) as show:
            file = pack(content.tree, None if change is None else paths, _Sum(show).add)
        with file:
            archive_bytes = file.seek(0, 2)
            self._check_limit(archive_bytes, [files[path] for path in paths])
            with self._shown("Sending", archive_bytes) as show:
                form = Form({name: text for name, text in fields.items() if text}, ARCHIVE, file, show)
                deployed = self._api.upload(self._deployment, form, query, options)
        return Sent(deployed, archive_bytes, change is None)

    def _check_limit(self, archive_bytes: int, entries: Sequence[Entry]) -> None:
        """Raise ``OverUploadLimit`` if the server says that it accepts less."""
        if archive_bytes < MIN_ASKED_BYTES:
            return
        try:
            listed = self._api.deployments()
        except ServerTooOld:
            return
        limit = next((one.upload_limit_bytes for one in listed if one.name == self._deployment), archive_bytes)
        if archive_bytes <= limit:
            return
        largest = sorted(entries, key=lambda entry: -entry.size)[:LARGEST_FILES]
        named = ", ".join(f"{quoted(entry.path)} ({size(entry.size)})" for entry in largest)
        raise OverUploadLimit(
            f"The packed files have {size(archive_bytes)}; {self._deployment} accepts {size(limit)}. "
            f"The largest of the files, before packing: {named}."
        )

    @contextmanager
    def _shown(self, text: str, total: int) -> Iterator[Callable[[int], object]]:
        """Give a function that shows how many of ``total`` bytes are done, if that takes a while."""
        if total < MIN_SHOWN_BYTES:
            yield lambda _: None
            return
        if not self._output.is_watched:
            self._output.say(f"{text} {size(total)}.")
        with bar(self._output, text, total) as show:
            yield show


class _Sum:
    """Shows the sum of what was added."""

    def __init__(self, show: Callable[[int], object]) -> None:
        self._show = show
        self._sum = 0

    def add(self, number: int) -> None:
        self._sum += number
        self._show(self._sum)


def fitting(git: Mapping[str, str]) -> str:
    """Return ``git`` as JSON, without what exceeds the longest that a server takes; ``""`` if nothing is left."""
    kept = dict(git)
    while len((text := json.dumps(kept, ensure_ascii=False)).encode()) > MAX_GIT_BYTES:
        kept.popitem()
    return text if kept else ""


def _removed(change: Change) -> str:
    return json.dumps(change.removed, ensure_ascii=False)
