"""The DAG bundle of Airflow 3: a deployment, versioned, so that a DAG run keeps its version to its last task.

::

    <storage>/<name>/live/                 a sidecar's volume: the newest version, at live/current
    <storage>/<name>/live.lock             locked by the process that works on any of it
    <storage>/<name>/live.id               a random id: the server knows this copy of the bundle by it
    <storage>/<name>/origin.json, origins/ which deploy log all of this is of
    <storage>/<name>/versions/<version>/   a version that runs are pinned to; Airflow removes stale ones

The dag processor follows the newest version at a path that never changes. A task gets the version that its run was
created with, from the disk if it is there, or else from the server; if neither has it, the task is rescheduled.

``versions/`` is cleaned up by Airflow. It removes only versions that have a tracking file, which it writes when a task
begins; so the bundle writes that file as soon as it creates a version, and every version is removed in the end.
"""

import contextlib
import datetime as dt
import http.client
import logging
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.configuration import conf
from airflow.dag_processing.bundles import base
from airflow.exceptions import AirflowException

from dagferry_airflow import pin
from dagferry_airflow.arguments import DEFAULT_KEEP, Keep
from dagferry_airflow.follower import SHORT_TIMEOUTS, Follower
from dagferry_airflow.live import live_deploy, live_version
from dagferry_airflow.origins import Origins
from dagferry_airflow.presence import COMPONENT, Identity, Presence, instance_name, kept_id
from dagferry_airflow.runs_in_use import versions_in_use
from dagferry_airflow.versions import Versions, is_permission_denied
from dagferry_core.errors import DagferryError, SetupError
from dagferry_core.names import DEFAULT_DEPLOYMENT, check_deployment
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import (
    AnswerInvalid,
    AwaitingFirstDeploy,
    LogRewritten,
    RootInUse,
    ServerRefused,
    ServerUnreachable,
    TokenUnreadable,
    VolumeFailed,
)
from dagferry_follow.remote.connection import ConnectionOptions, Timeouts, check_url, tls_context
from dagferry_follow.remote.server import Server
from dagferry_follow.volume.root import CURRENT

if TYPE_CHECKING:
    from dagferry_airflow.bundle_parsed import BundleParsed

AGENT = "dagferry-airflow"
SERVER_ERRORS = 500
DEFAULT_RETRY_SECONDS = 60

log = logging.getLogger(__name__)


class DagferryBundle(base.BaseDagBundle):  # type: ignore[misc] # Airflow is not installed where types are checked
    """A deployment of a Dagferry server as a DAG bundle.

    ``server`` is the server's URL, ``deployment`` the deployment's name; ``token_file`` has a token of scope ``sync``,
    if the server wants one, which goes over plain HTTP only with ``allow_plain_http``; ``ca_file`` has the certificate
    authorities to trust with https. ``view_url_template`` is the URL of a web page that shows a version, with
    ``{version}`` in it. ``keep_trees``, ``keep_hours`` and ``max_tree_bytes`` say which old trees stay in ``live``. The
    rest is Airflow's own. Raises ``DagferryError`` if an argument cannot be used.
    """

    supports_versioning = True

    def __init__(
        self,
        *,
        server: str,
        deployment: str = DEFAULT_DEPLOYMENT,
        token_file: str | None = None,
        ca_file: str | None = None,
        allow_plain_http: bool = False,
        view_url_template: str | None = None,
        keep_trees: int = DEFAULT_KEEP.trees,
        keep_hours: float = DEFAULT_KEEP.hours,
        max_tree_bytes: int | None = DEFAULT_KEEP.max_bytes,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.server = server
        try:
            self.deployment = check_deployment(deployment)
        except ValueError as error:
            raise SetupError(f"{error}.", f"Check deployment in the kwargs of bundle {self.name}.") from error
        self._access = ConnectionOptions(token_file=token_file, ca_file=ca_file)
        self._allow_plain_http = allow_plain_http
        self._template = view_url_template
        self._live = f"{self.base_dir}/live"
        self._path = Path(self.versions_dir, self.version) if self.version else Path(self._live, CURRENT)
        keep = Keep(keep_trees, keep_hours, max_tree_bytes).check()
        origins = Origins(self.base_dir, server, self.deployment)
        self._follower = Follower(self._live, self._connect, keep, note_log=origins.note)
        self._newest_beside = ""  # the newest version, if this user may not make it live
        self._versions = Versions(self.base_dir, self._connect, self._track, origins, keep)
        self._presence: Presence | None = None  # in the dag processor
        self._parsed: BundleParsed | None = None  # the same

    # --- what Airflow calls ------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The folder of the files: always the same for the dag processor, a real tree for a task."""
        return self._path

    def get_current_version(self) -> Any:
        """Return the version of the files at ``path``, in the type that this Airflow expects, or ``None``."""
        version = self.version or self._newest_beside or live_version(self._live)
        kind = getattr(base, "BundleVersion", None)  # since 3.3
        return kind(version) if kind and version else version or None

    def initialize(self) -> None:
        """Provide the files of ``version``, or the newest; or what is live already, if the server is unreachable."""
        if self.version:
            with self._raising_for_airflow():
                # Outside of a task this may be the loop of the dag processor, for a callback: it must not be blocked.
                self._versions.make(self.version, for_task=pin.is_task())
        else:
            if sys.argv[1:2] == ["dag-processor"] and not pin.is_task():
                # Before the first parse: what it reads is seen only by a hook that was there before its fork.
                from dagferry_airflow import bundle_parsed  # noqa: PLC0415 - it imports Airflow's tables

                self._parsed = bundle_parsed.of(self.name, self._live, self.refresh_interval)
            self._follow()
        if pin.is_task():
            self._pin()
        super().initialize()

    @property
    def is_initialized(self) -> bool:
        """Whether ``initialize`` was called. The dag processor looks at this every few seconds, also if it is another
        one's turn to refresh: then the server learns that this one is there, and what it has parsed.
        """
        if self._presence and self._presence.is_here:
            self._follower.heartbeat()
            if self._parsed:
                self._parsed.note_round()
                self._presence.report(live_deploy(self._live), SHORT_TIMEOUTS)
        return self._is_initialized

    @is_initialized.setter
    def is_initialized(self, value: bool) -> None:
        self._is_initialized = value

    def _pin(self) -> None:
        """Log which version the task runs on. If its run has none, that is the newest: it must not see a later one."""
        how = pin.RUN
        if not self.version:
            how = pin.NEWEST
            self._path = Path(pin.Pins(pin.Wish()).pin(str(self._path)) or self._path)
        log.info("%s", pin.version_line(self._path.name, how, f"bundle={self.name}"))

    def refresh(self) -> None:
        """Make the newest version live unless it is, and report what is needed. Only the dag processor calls this."""
        if self.version:
            raise AirflowException(f"Bundle {self.name} at version {self.version} cannot be refreshed.")
        if not self._presence and not pin.is_task():
            name = instance_name(conf.get("dagferry", "instance", fallback=None), os.environ)
            identity = Identity(name, kept_id(f"{self._live}.id"))
            self._presence = Presence(
                str(self.base_dir), identity, self._connect, self._versions_needed, self._what_is_parsed
            )
            self._follower.reports = True
        self._follow()
        if self._presence:
            self._presence.report(live_deploy(self._live), SHORT_TIMEOUTS)

    def _what_is_parsed(self, live: DeployRef) -> dict[str, Any] | None:
        return self._parsed.look(live) if self._parsed else None

    def _versions_needed(self) -> list[str]:
        from airflow.utils.session import create_session  # noqa: PLC0415 - tasks have no database

        with create_session(scoped=False) as session:  # a scoped one may be the dag processor's own
            return versions_in_use(session, self.name)

    def _follow(self) -> None:
        self._follower.follow(for_task=pin.is_task())
        error = self._follower.error
        if error and pin.is_task() and is_permission_denied(error):
            # With run_as_user: this user may not write in ``live``, and must not get an older version instead.
            with self._raising_for_airflow():
                self._newest_beside = self._versions.make_newest()
            if self._newest_beside:
                self._path = self._versions.path(self._newest_beside)
        elif error and not self._path.is_dir():
            self._raise_for_airflow(error)

    @contextlib.contextmanager
    def _raising_for_airflow(self) -> Iterator[None]:
        try:
            yield
        except DagferryError as error:
            self._raise_for_airflow(error)
        except OSError as error:
            failure = VolumeFailed(f"{error.filename or self.base_dir}: {error.strerror}.")
            failure.__cause__ = error
            self._raise_for_airflow(failure)

    def view_url_template(self) -> str | None:
        """Return the URL of the web page that shows a version."""
        return self._template

    def view_url(self, version: str | None = None) -> str | None:
        """Return the same for one version, for Airflow 3.0."""
        return self._template.format(version=version) if self._template and version else None

    def _track(self, version: str) -> None:
        """Write the tracking file that Airflow's own clean-up uses, unless it is there."""
        file = base.get_bundle_tracking_file(self.name, version)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(_now().isoformat())

    # --- the server --------------------------------------------------------------------------------------------------

    def _connect(self, timeouts: Timeouts | None = None) -> Server:
        try:
            check_url(self.server)
            if self._access.ca_file:
                tls_context(self._access.ca_file)
        except ValueError as error:
            raise SetupError(f"server is {self.server!r}: {error}.") from error
        except OSError as error:
            raise SetupError(f"The CA file {self._access.ca_file} cannot be used: {error.strerror}.") from error
        self._access.check(self.server, allow_plain_http=self._allow_plain_http)
        instance, volume = self._presence.identity if self._presence and self._presence.is_here else ("", "")
        return Server(
            self.server,
            self.deployment,
            instance,
            COMPONENT if instance else "",
            agent=AGENT,
            volume=volume,
            access=self._access,
            timeouts=timeouts,
        )

    def _raise_for_airflow(self, error: DagferryError) -> NoReturn:
        """Raise Airflow's own error; in a task that waiting helps, the one that reschedules it (Airflow 3.1.7 on)."""
        if not pin.is_task() or not _waiting_helps(error):
            # Any other type ends the dag processor of Airflow before 3.3.
            raise AirflowException(error.message + self._hint(error)) from error
        try:
            from airflow.sdk.exceptions import AirflowRescheduleException  # noqa: PLC0415 - where it moved to
        except ImportError:
            from airflow.exceptions import AirflowRescheduleException  # noqa: PLC0415

        seconds = conf.getint("workers", "missing_dag_retry_delay", fallback=DEFAULT_RETRY_SECONDS)
        moment = _now() + dt.timedelta(seconds=seconds)
        log.warning("%s This task is rescheduled to %s.", error.message, moment)
        raise AirflowRescheduleException(reschedule_date=moment) from error

    def _hint(self, error: DagferryError) -> str:
        # Not the error's own hint, which names the sidecar's flags.
        if is_permission_denied(error) and not isinstance(error, (SetupError, TokenUnreadable)):
            return (
                f" Where tasks have run_as_user, all these users need a common group that may write in {self.base_dir} "
                f"and {self.base_dir.parent / '_tracking'}: chgrp -R GROUP and chmod -R g+ws, and umask 0002 where "
                "Airflow is started."
            )
        answered = error.answered if isinstance(error, ServerRefused) else 0
        if self.version and answered in {http.client.GONE, http.client.NOT_FOUND}:
            # The version is gone for good, so the run needs another one.
            clear = (
                f" Version {self.version} is not on this machine's disk either. Clear the task with “Run with latest "
                "bundle version” to run it on the newest one."
            )
            if answered == http.client.GONE:
                return clear + " A larger --keep-days on the server keeps versions for longer."
            return clear + f" If the server should have it, check server and deployment of bundle {self.name}."
        if isinstance(error, AwaitingFirstDeploy):
            return f" Deploy to {self.deployment} on {self.server}; the next refresh of bundle {self.name} takes it."
        if not isinstance(error, (SetupError, TokenUnreadable, ServerUnreachable, ServerRefused, AnswerInvalid)):
            return f" {error.hint}" if isinstance(error, LogRewritten) else ""
        return (
            f" Check the kwargs of bundle {self.name} in [dag_processor] dag_bundle_config_list: server, deployment, "
            "token_file, ca_file, allow_plain_http; then the server's log."
        )


def _waiting_helps(error: DagferryError) -> bool:
    if isinstance(error, ServerRefused):
        return error.answered >= SERVER_ERRORS
    if isinstance(error, ServerUnreachable):
        return not isinstance(error.__cause__, ssl.SSLCertVerificationError)
    return isinstance(error, (RootInUse, AwaitingFirstDeploy))


def _now() -> dt.datetime:
    return dt.datetime.now(tz=dt.timezone.utc)
