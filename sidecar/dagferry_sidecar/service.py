"""The life cycle of the process: settings, signals, probes, the volume, the loop, and a clean shutdown."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dagferry_core import __version__
from dagferry_follow.errors import ServerUnreachable
from dagferry_follow.log import Log, write_with
from dagferry_follow.remote.server import Server
from dagferry_follow.volume.root import CURRENT
from dagferry_follow.volume.tree import Damage
from dagferry_follow.volume.volume import Volume
from dagferry_runtime.lines import fields, write_line
from dagferry_runtime.signals import Stopped, Stopping
from dagferry_sidecar.hooks import AfterSwap, Hook
from dagferry_sidecar.loop import Loop
from dagferry_sidecar.settings import Settings, read_settings
from dagferry_sidecar.stats import Stats

if TYPE_CHECKING:
    from dagferry_sidecar.probes import Probes

UMASK = 0o022
HOOK_STOP_SECONDS = 2.0
"""How long the shutdown waits for a running hook, after telling it to stop."""

log = Log(__name__)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the sidecar and return its exit code: 0 after a signal, or the result of ``--once``."""
    settings = read_settings(arguments, environment)
    write_with(write_line)
    os.umask(UMASK)
    stopping = Stopping()
    stopping.listen()
    try:
        return _run(settings, stopping)
    except Stopped:
        log.info("Stopped", extra=fields(deployment=settings.deployment, instance=settings.instance))
        # A process that waits for --once must not assume that there is a tree.
        return ServerUnreachable.exit_code if settings.once else 0


def _run(settings: Settings, stopping: Stopping) -> int:
    stats = Stats()
    probes = None
    if not settings.once:
        # Nobody probes an init container, so it does not wait for this import.
        from dagferry_sidecar.probes import Probes  # noqa: PLC0415

        probes = Probes(settings.listen, stats)
        probes.start()
    volume = Volume(settings.root)
    try:
        damage = volume.load()
        leftovers = volume.sweep()
        _log_start(settings, volume, damage, leftovers)
        if probes:
            probes.root = volume.root
        server = Server(
            settings.server,
            settings.deployment,
            settings.instance,
            settings.component,
            agent="dagferry-sidecar",
            volume="" if settings.once else volume.root.identity(),
            once=settings.once,
            access=settings.access,
        )
        if probes:
            _take_reports(settings, volume, probes)
        hooks = _start_hooks(settings, stats)
        loop = Loop(settings, volume, damage, server, stats, stopping=stopping, hooks=hooks)
        try:
            return loop.run()
        except Stopped:
            if not settings.once:
                loop.deregister()
            raise
        finally:
            for hook in hooks:
                hook.stop(HOOK_STOP_SECONDS)
    finally:
        volume.close()


def _take_reports(settings: Settings, volume: Volume, probes: "Probes") -> None:
    """Take reports of a dag processor beside this sidecar, and note on the volume where."""
    from dagferry_follow.beside import write_address  # noqa: PLC0415 - an init container takes none
    from dagferry_sidecar.passing_on import TIMEOUTS, PassingOn  # noqa: PLC0415

    server = Server(
        settings.server, settings.deployment, agent="dagferry-sidecar", access=settings.access, timeouts=TIMEOUTS
    )
    probes.passing_on = PassingOn(volume.root, server)
    try:
        write_address(settings.root, settings.listen[0], probes.port)
    except OSError as error:
        log.warning("A dag processor cannot find this sidecar, to report what it has parsed: %s", error)


def _start_hooks(settings: Settings, stats: Stats) -> list[AfterSwap]:
    """Start the hooks; an init container (``--once``) has none, because nothing runs that they could notify."""
    hooks: list[Hook] = []
    folder = f"{settings.root}/{CURRENT}"
    if settings.hook_command and not settings.once:
        from dagferry_sidecar.hook_command import HookCommand  # noqa: PLC0415 - it imports subprocess

        hooks.append(HookCommand(settings.hook_command, folder))
    if settings.airflow_url and settings.airflow_credentials and not settings.once:
        from dagferry_sidecar.airflow_api import AirflowApi  # noqa: PLC0415 - hardly any pod needs it

        hooks.append(AirflowApi(settings.airflow_url, settings.airflow_credentials, folder, settings.ca_file))
    return [AfterSwap(hook, functools.partial(stats.count_hook, hook.name)) for hook in hooks]


def _log_start(settings: Settings, volume: Volume, damage: Damage, leftovers: int) -> None:
    rules = settings.tree_rules()
    log.info(
        "Sidecar started",
        extra=fields(
            **{
                **settings._asdict(),
                "listen": ":".join(map(str, settings.listen)),
                "max_tree_bytes": rules.max_tree_bytes,
                "token": "given" if settings.token else None,
                "hook_command": settings.hook_command and settings.hook_command[0],  # the rest may be a secret
            },
            program_version=__version__,
            version=volume.live.record.version if volume.live else None,
            damaged_files=len(damage.corrupt),
            old_trees=len(volume.old),
            leftovers=leftovers,
        ),
    )
