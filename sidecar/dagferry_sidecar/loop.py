"""The loop: does what ``decide`` says, reports the results back to it, and keeps logs and metrics up to date."""

import random
import time
from collections.abc import Sequence

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.errors import DagferryError
from dagferry_follow.choose import Condition, How, condition_of
from dagferry_follow.defaults import TOUCH_AGAIN_SECONDS
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import AwaitingFirstDeploy, RootUnusable, ServerUnreachable, VolumeFailed
from dagferry_follow.log import Log
from dagferry_follow.remote.download import open_download
from dagferry_follow.remote.server import CONNECT_SECONDS, SILENCE_SECONDS, Report, Server
from dagferry_follow.volume import tree as trees
from dagferry_follow.volume.staging import Content
from dagferry_follow.volume.tree import Damage, Tree
from dagferry_follow.volume.volume import Volume
from dagferry_runtime.lines import fields
from dagferry_runtime.signals import Stopping
from dagferry_sidecar.decide import decide
from dagferry_sidecar.hints import hint
from dagferry_sidecar.hooks import AfterSwap
from dagferry_sidecar.pace import MIN_DOWNLOAD_SECONDS, request_timeout, touch_due
from dagferry_sidecar.settings import Settings
from dagferry_sidecar.state import (
    Action,
    Apply,
    ApplyFailed,
    Changed,
    Check,
    Checked,
    Done,
    Event,
    Exit,
    NotModified,
    Poll,
    PollFailed,
    Published,
    Rules,
    Sleep,
    Started,
    State,
    Touch,
)
from dagferry_sidecar.stats import LOCAL_SECONDS, OK, Stats

MAX_SHOWN_PATHS = 3
REQUEST_SECONDS = 2 * (CONNECT_SECONDS + SILENCE_SECONDS)
"""The longest a request may take beyond its wait: a broken connection is followed by one more."""

log = Log(__name__)


class Loop:
    """A running sidecar, on a volume that is already loaded, with the damage that was found."""

    def __init__(
        self,
        settings: Settings,
        volume: Volume,
        damage: Damage,
        server: Server,
        stats: Stats,
        *,
        stopping: Stopping,
        hooks: Sequence[AfterSwap] = (),
    ) -> None:
        self._settings = settings
        self._volume = volume
        self._damage = damage
        self._server = server
        self._stats = stats
        self._stopping = stopping
        self._hooks = hooks
        self._rules = settings.tree_rules()
        self._download_until = 0.0
        deadline = time.monotonic() + settings.once_timeout
        rules = Rules(settings.once, settings.poll_wait, settings.poll_interval, deadline, settings.when_empty)
        self._state = State(rules)

    def run(self) -> int:
        """Follow the deployment until ``decide`` says to exit; return the exit code."""
        action = self._next(self._started())
        while not isinstance(action, Exit):
            self._stopping.check()
            action = self._next(self._do(action))
        if (error := self._state.error) and action.code:
            text = f"{error.message.rstrip('.')}. Gave up after {self._settings.once_timeout:g} s (--once-timeout)."
            log.error(text, extra=fields(**self._log_fields(), code=error.code, hint=hint(error)))
        return action.code

    def _next(self, event: Event) -> Action:
        before = self._state
        self._state, action = decide(before, event, time.monotonic(), random.random())  # noqa: S311 - only jitter
        if not isinstance(event, ApplyFailed):  # which is counted where it happens
            self._count(before.deploy_error, self._state.deploy_error)
        self._count(before.contact_error, self._state.contact_error)
        self._log_changes(before, self._state)
        return action

    def deregister(self) -> None:
        """Tell the server that this sidecar is shutting down, if it can be reached at once."""
        try:
            self._server.deregister(self._report())
        except DagferryError as error:
            log.info("Deregistration failed: %s", error.message)

    def _started(self) -> Started:
        live = self._volume.live
        ages: dict[str, float] = {}
        if live and self._volume.old:  # a first tree replaced nothing that Airflow could have been parsing
            now = time.time()
            ages = {path: now - live.tree.mtimes[path] / trees.SECOND_NS for path in live.tree.manifest.files}
            ages = {path: age for path, age in ages.items() if 0 <= age < TOUCH_AGAIN_SECONDS[-1]}
        deploy = live.record.deploy if live else None
        return Started(deploy, condition_of(self._damage), _text_of(self._damage), ages)

    def _do(self, action: Action) -> Event:
        self._stats.watchdog(LOCAL_SECONDS)
        match action:
            case Poll():
                return self._poll(action)
            case Apply():
                return self._apply(action)
            case Check():
                return self._check()
            case Touch():
                self._touch(action)
            case Sleep():
                self._stats.watchdog(action.seconds + LOCAL_SECONDS)
                time.sleep(action.seconds)
            case Exit():
                pass
        return Done()

    # --- polling -----------------------------------------------------------------------------------------------------

    def _poll(self, action: Poll) -> Event:
        self._stats.watchdog(action.wait + REQUEST_SECONDS)
        try:
            timeout = request_timeout(self._state, time.monotonic())
            deploy = self._server.current(action.seen, action.wait, self._report(), timeout=timeout)
        except DagferryError as error:
            return PollFailed(error)
        self._stats.last_contact = time.time()
        if deploy is None:
            return NotModified(self._server.stated)
        if deploy.sequence and deploy.known_as(self._state.live) != self._state.live:
            log.info("New deploy available", extra=fields(**self._log_fields(deploy), sequence=deploy.sequence))
        return Changed(deploy, self._server.stated)

    def _report(self) -> Report:
        # Not that the server was out of reach: when it hears that, it no longer is. With --once the request names no
        # instance: this sidecar is gone soon, so the server must not expect it.
        live = self._state.live
        log_id = live.log_id if live and live.sequence else ""
        return Report(live.version if live else "", self._state.deploy_error, log_id, self._volume.used)

    # --- applying ----------------------------------------------------------------------------------------------------

    def _apply(self, action: Apply) -> Event:
        started = time.monotonic()
        try:
            deploy, kind, received, fresh = self._publish(action)
        except DagferryError as error:
            self._server.close()
            self._stats.count_sync(error.code)
            log.debug("%s could not be applied: %s", action.deploy.version, error.message)
            return ApplyFailed(action, error)
        except Exception as error:
            # A bug must cost this deploy, not the pod: a crash would only repeat it.
            self._server.close()
            self._stats.count_sync(DagferryError.code)
            log.exception("A deploy could not be applied because of an internal error")
            return ApplyFailed(action, DagferryError(f"{type(error).__name__}: {error}"))
        seconds = time.monotonic() - started
        self._stats.count_sync(OK)
        self._stats.sync_count += 1
        self._stats.sync_seconds += seconds
        log.info(
            "Tree published",
            extra=fields(
                **self._log_fields(deploy),
                sequence=deploy.sequence,
                digest=deploy.digest,
                kind=kind,
                bytes=received,
                fresh_files=len(fresh),
                milliseconds=round(seconds * 1000, 1),
            ),
        )
        for hook in self._hooks:
            hook.swapped(deploy)
        self._retire()
        return Published(deploy, tuple(fresh))

    def _publish(self, action: Apply) -> tuple[DeployRef, str, int, list[str]]:
        deploy, live = action.deploy, self._volume.live
        if action.how is How.SEED:
            from dagferry_sidecar.seed import Seed  # noqa: PLC0415 - hardly any run needs it

            seed = Seed(self._settings.seed)
            if self._settings.seed and not seed.manifest.files:
                # To Airflow an empty tree means that all DAGs are gone; --when-empty empty is the way to say that.
                raise AwaitingFirstDeploy(
                    f"Nothing is deployed yet, and the seed {self._settings.seed} has no files. Nothing is published.",
                    "Deploy something: the sidecar publishes it immediately. Or correct --seed.",
                )
            deploy = deploy._replace(version=seed.version, digest=seed.manifest.digest)
            return deploy, str(How.SEED), 0, self._stage_and_swap(deploy, seed.manifest, seed.files())
        if action.how is How.SAME and live:
            return deploy, str(How.SAME), 0, self._stage_and_swap(deploy, live.tree.manifest, live.tree)
        base = live if action.how is How.PATCH else None
        now = time.monotonic()
        self._download_until = max(self._state.rules.deadline, now + MIN_DOWNLOAD_SECONDS)
        have = base.record.version if base else ""
        retained = self._volume.retained(deploy.digest) if base else None
        download = self._server.download(
            deploy.version, have, retained=deploy.digest if retained else "", timeout=request_timeout(self._state, now)
        )
        old = base.tree.manifest if base else None
        try:
            with open_download(download, old, deploy.digest, self._heartbeat) as (manifest, content):
                fresh = self._stage_and_swap(deploy, manifest, content, retained)
        finally:
            self._stats.download_bytes[download.kind] += download.received
        return deploy, download.kind, download.received, fresh

    def _stage_and_swap(
        self, deploy: DeployRef, manifest: Manifest, content: Content, retained: Tree | None = None
    ) -> list[str]:
        with self._volume.stage(deploy, manifest, retained) as staging:
            staging.populate(content)
            return self._volume.swap(staging, time.time)

    def _heartbeat(self) -> None:
        """Do what must not wait until a download ends."""
        self._stats.watchdog(LOCAL_SECONDS)
        self._state, touch = touch_due(self._state, time.monotonic())
        if touch:
            self._touch(touch)
        if self._settings.once and time.monotonic() > self._download_until:
            raise ServerUnreachable("The download took longer than --once-timeout.")

    # --- the volume --------------------------------------------------------------------------------------------------

    def _check(self) -> Event:
        self._retire()
        try:
            damage = self._volume.check()
        except RootUnusable as error:  # something else has the name of the link
            return Checked(Condition.UNEXPECTED, error.message)
        except VolumeFailed as error:  # this does not mean that the tree is damaged
            self._stats.count_sync(error.code)
            log.debug("The live tree could not be checked: %s", error.message)
            return Done()
        return Checked(condition_of(damage), _text_of(damage))

    def _touch(self, action: Touch) -> None:
        if not self._volume.live:
            return
        try:
            trees.touch(self._volume.live.tree, action.paths, time.time())
        except OSError as error:
            log.warning("Files could not be touched again: %s", error)

    def _retire(self) -> None:
        removed = self._volume.retire(self._rules, time.time())
        self._stats.trees, self._stats.tree_bytes = self._volume.stored()
        self._stats.used_trees = self._volume.used
        if removed:
            log.info(
                "Old trees removed", extra=fields(**self._log_fields(), removed=removed, bytes=self._stats.tree_bytes)
            )

    # --- logs and counts----------------------------------------------------------------------------------------------

    def _log_fields(self, deploy: DeployRef | None = None) -> dict[str, object]:
        live = deploy or self._state.live
        return {
            "deployment": self._settings.deployment,
            "version": live.version if live else None,
            "instance": self._settings.instance,
        }

    def _count(self, before: DagferryError | None, after: DagferryError | None) -> None:
        if after is not None and after is not before:
            self._stats.count_sync(after.code)

    def _log_changes(self, before: State, after: State) -> None:
        self._stats.live = after.live
        self._stats.intact = after.live is not None and after.condition is not Condition.CORRUPT
        self._stats.error = after.error
        if after.warning and after.warning != before.warning:
            log.warning(after.warning, extra=fields(**self._log_fields()))
        if after.wait_limit_until > before.wait_limit_until:
            advice = "Raise the timeouts of proxies in between to 75 s, or set --poll-wait below them."
            text = f"Long polls are cut off on the way. For an hour they are limited to {after.wait_limit} s."
            log.warning(text, extra=fields(**self._log_fields(), hint=advice))
        old, new = before.error, after.error
        if new and (old is None or old.code != new.code):
            log.warning(new.message, extra=fields(**self._log_fields(), code=new.code, hint=hint(new)))
        if old and new is None:
            log.info("Recovered", extra=fields(**self._log_fields(), after=old.code))


def _text_of(damage: Damage) -> str:
    paths = [*damage.corrupt, *damage.unexpected]
    more = f" and {len(paths) - MAX_SHOWN_PATHS} more" if len(paths) > MAX_SHOWN_PATHS else ""
    return f"Not as published: {', '.join(paths[:MAX_SHOWN_PATHS])}{more}."
