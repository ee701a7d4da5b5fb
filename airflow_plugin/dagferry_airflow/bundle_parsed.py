"""What the dag processor has parsed of a DAG bundle, found in its loop, without a thread: it forks.

``initialize`` of the bundle calls ``of`` before any of its files is parsed. ``look`` is called whenever the bundle may
report something; what it returns is sent by ``presence``.
"""

import contextlib
import logging
import time
from typing import Any

from dagferry_airflow import helper, options, reads
from dagferry_airflow.about import this_airflow
from dagferry_airflow.known_errors import MAX_KEPT_BYTES, KnownErrors
from dagferry_airflow.listing import of_airflow
from dagferry_airflow.noting import Noting
from dagferry_airflow.observer import Observer
from dagferry_airflow.recorded import Folder, Recorded, Rounds
from dagferry_airflow.reports import parsed_body
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.small_files import read_text, replace_text
from dagferry_follow.volume.root import CURRENT

FAILED_SECONDS = 10.0
"""The pause after a failure of the database or the volume."""

log = logging.getLogger(__name__)

_known: dict[str, "BundleParsed | None"] = {}


def of(name: str, root: str, refresh_seconds: float) -> "BundleParsed | None":
    """Return what is known of the bundle ``name`` with the volume ``root``: one in each process.

    ``None`` where nothing is reported: in other processes than the dag processor, and where that is switched off.
    ``refresh_seconds`` is the bundle's interval. Never raises.
    """
    if root not in _known:
        _known[root] = None
        try:
            if helper.is_dag_processor() and options.report_parsed():
                _known[root] = BundleParsed(name, root, refresh_seconds)
        except Exception:
            log.exception("What Airflow has parsed of bundle %s will not be reported", name)
    return _known[root]


class BundleParsed:
    """What is parsed of one bundle. Raises ``OSError`` if there is no folder for what parses note."""

    def __init__(self, name: str, root: str, refresh_seconds: float) -> None:
        self._name = name
        self._kept_path = f"{root}.parsed.json"
        self._kept = read_text(self._kept_path, MAX_KEPT_BYTES)
        self._rounds = Rounds()
        self._noting = Noting(root)
        helper.note_dag_processor()
        self._observer = Observer(
            root,
            [""],
            reads.watch(root, helper.is_parse).collect,
            Recorded([Folder(f"{root}/{CURRENT}", "", name)], self._rounds.collected).read,
            listing=of_airflow(),
            airflow=this_airflow(refresh_seconds),
            known=KnownErrors(self._kept),
            on_parse=self._noting.note,
        )
        self._not_before = 0.0
        self._said = ""

    def note_round(self) -> None:
        """Note that the loop of the dag processor came round: it collects finished parses once in each round."""
        self._rounds.note(time.time())

    def look(self, live: DeployRef) -> dict[str, Any] | None:
        """Return what is parsed of the ``live`` deploy, as it is reported; ``None`` if that is not known now."""
        if time.monotonic() < self._not_before:
            return None
        try:
            parsed = self._observer.look()
            self._noting.flush()
            self._keep()
        except Exception as error:  # noqa: BLE001 - the database, the volume
            self._not_before = time.monotonic() + FAILED_SECONDS
            if str(error) != self._said:
                self._said = str(error)
                log.warning("It is not known at the moment what Airflow has parsed of %s: %s", self._name, error)
            return None
        return parsed_body(parsed) if parsed and self._observer.live == live else None

    def _keep(self) -> None:
        kept = self._observer.known.keep()
        if kept != self._kept:
            self._kept = kept
            with contextlib.suppress(OSError):  # then a restart takes new errors for older ones
                replace_text(self._kept_path, kept)
