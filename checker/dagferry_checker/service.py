"""The life cycle of the process: settings, signals, the work folder, the engine, and a clean end."""

import os
import tempfile
from collections.abc import Mapping, Sequence

from dagferry_checker.beside import Beside
from dagferry_checker.checking import Checking
from dagferry_checker.engine_process import Engine
from dagferry_checker.follow import Follower
from dagferry_checker.leftovers import remove_tree
from dagferry_checker.limits import adopt_orphans, hide_memory
from dagferry_checker.once import check_once, fetch_version, tree_of_folder
from dagferry_checker.output import print_report
from dagferry_checker.settings import Settings, read_settings
from dagferry_checker.trees import TreeStore
from dagferry_core import __version__, protocol
from dagferry_core.errors import EXIT_REFUSED
from dagferry_follow.errors import RootUnusable, ServerUnreachable
from dagferry_follow.log import Log, write_with
from dagferry_follow.remote.candidates import CheckServer
from dagferry_follow.volume.tree import Tree
from dagferry_runtime.lines import fields, write_line
from dagferry_runtime.signals import Stopped, Stopping

AGENT = "dagferry-checker"

log = Log(__name__)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the checker and return its exit code: 0 after a signal, or the result of ``--once`` or ``--path``."""
    settings = read_settings(arguments, environment)
    write_with(write_line)
    stopping = Stopping()
    stopping.listen()
    hide_memory()
    adopt_orphans()
    own = settings.work_dir or _temporary()
    try:
        store = TreeStore(own)
        engine = Engine(settings.engine, store.scratch, environment)
        try:
            if settings.once or settings.path is not None:
                return _once(settings, engine, store, stopping)
            return _follow(settings, engine, store, stopping)
        finally:
            engine.close()
            store.close()
    except Stopped:
        log.info("Stopped", extra=fields(deployment=settings.deployment, instance=settings.instance))
        return ServerUnreachable.exit_code if settings.once or settings.path is not None else 0
    finally:
        if not settings.work_dir:
            remove_tree(own)


def _temporary() -> str:
    try:
        return tempfile.mkdtemp(prefix="dagferry-checker-")
    except OSError as error:
        raise RootUnusable(
            f"No temporary folder can be created: {error.strerror}.", "Set --work-dir to a folder."
        ) from error


def _server(settings: Settings, beside: str = "") -> CheckServer:
    return CheckServer(
        settings.server,
        beside or settings.deployment,
        settings.instance,
        agent=AGENT,
        once=settings.once or bool(beside),  # so that no upload waits for it
        access=settings.access,
    )


def _beside(settings: Settings, engine: Engine, store: TreeStore) -> Beside:
    return Beside({name: _server(settings, beside=name) for name in settings.beside}, engine, store)


def _once(settings: Settings, engine: Engine, store: TreeStore, stopping: Stopping) -> int:
    versions = engine.versions._asdict()
    about, version = settings.path or "", ""
    tree: Tree | None
    if settings.path is not None:
        tree = tree_of_folder(settings.path)
    else:
        server = _server(settings)
        found = fetch_version(server, store, settings.check_version, settings.once_timeout)
        server.close()
        version, tree = found or ("", None)
        about = f"{settings.deployment} {version}"
    if tree is None:
        log.info("Nothing is deployed, so there is nothing to check", extra=fields(deployment=settings.deployment))
        return 0
    report = check_once(Checking(engine, store), tree, _beside(settings, engine, store), stopping.check)
    print_report(report, about, versions, as_json=settings.json, version=version)
    return EXIT_REFUSED if report.problems else 0


def _follow(settings: Settings, engine: Engine, store: TreeStore, stopping: Stopping) -> int:
    log.info("Airflow is being imported", extra=fields(deployment=settings.deployment, instance=settings.instance))
    versions = engine.versions
    about = {
        protocol.AIRFLOW: versions.airflow,
        protocol.PYTHON: versions.python,
        protocol.VARIABLES: settings.variables,
    }
    log.info(
        "Checker started",
        extra=fields(
            **{**settings._asdict(), "token": "given" if settings.token else None},
            **versions._asdict(),
            program_version=__version__,
            pid=os.getpid(),
        ),
    )
    follower = Follower(
        _server(settings),
        engine,
        store,
        _beside(settings, engine, store),
        instance=settings.instance,
        about=about,
        stopping=stopping,
    )
    try:
        follower.run()
    except Stopped:
        engine.close()
        follower.leave()
        raise
    return 0
