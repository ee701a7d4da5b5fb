"""Fixtures of the tests with real Airflow."""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dagferry_follow.remote.server
from airflows import Airflow, Postgres, environment_of
from bundle_runner import A, B, C, run_in
from dagferry_airflow.live import LiveTree
from dagferry_follow.defaults import TOUCH_AGAIN_SECONDS
from harness import Server, Sidecar, eventually


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    environment_of(3)  # nothing is started where the tests are skipped
    server = Postgres()
    yield server
    server.stop()


INTERVAL_SECONDS = 30
"""Airflow's default of ``min_file_process_interval``: it reads each file so long after its last parse."""
ROOM_SECONDS = 10
"""So much of a DAG's interval is left at least when a change is deployed that is to be read before its end."""
READ_SECONDS = 120
"""For what only has to happen at all."""


class Swap(NamedTuple):
    """A deploy that went live: when, and until when nothing else makes Airflow read the DAGs it is about."""

    at: float
    until: float

    @property
    def seconds(self) -> float:
        """What is left of that time."""
        return self.until - time.time()


class Site:
    """A server, a sidecar, and an Airflow that reads what the sidecar publishes."""

    def __init__(self, folder: Path, postgres: Postgres, major: int, *flags: str, **settings: str) -> None:
        self.interval = float(settings.get("AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL", INTERVAL_SECONDS))
        self.airflow = Airflow(postgres, major, folder / "airflow", str(folder / "pod/current"), **settings)
        self.server = Server(folder / "data").ready()
        # Flags may name what is known only now, as in "{airflow.home}/credentials".
        self.sidecar = Sidecar(self.server.url, folder / "pod", *(flag.format(airflow=self.airflow) for flag in flags))
        self.files: dict[str, bytes] = {}

    def deploy(
        self, change: Mapping[str, bytes | None], *, quiet: bool = True, when: Callable[[], object] = lambda: True
    ) -> float:
        """Deploy with these files changed (``None``: removed); return the moment at which they became live.

        ``quiet``: do so while no parse is under way, because one that ends after the swap hides it for 10 s, and as
        soon as ``when`` is true.
        """
        self.files = {path: content for path, content in {**self.files, **change}.items() if content is not None}
        running = "dag-processor" in self.airflow.processes
        with self.airflow.between_parses(when) if quiet and running else contextlib.nullcontext():
            self.sidecar.runs(self.server.deploy(self.files)["version"])
            return os.lstat(self.sidecar.root / "current").st_mtime  # the link was made for this swap

    @contextlib.contextmanager
    def swapped(self, change: Mapping[str, bytes | None], *dags: str) -> Iterator[Swap]:
        """Deploy; until the end of the block nothing but the swap makes Airflow read these DAGs.

        The sidecar stands still and touches no file again, and the interval of none is over before ``until``. So it is
        known what made Airflow read a DAG, however slow the machine is.
        """

        ends = 0.0

        def room() -> bool:
            nonlocal ends
            parsed = {dag: self.airflow.last_parsed(dag) for dag in dags}
            ends = min(parsed.values()) + self.interval
            # An earlier deploy may have touched a file that has not been read since.
            read = all(os.stat(self.sidecar.root / f"current/{dag}.py").st_mtime < at for dag, at in parsed.items())
            return read and ends - time.time() > ROOM_SECONDS

        swap = self.deploy(change, when=room)
        self.sidecar.process.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self.sidecar.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert time.time() - swap < TOUCH_AGAIN_SECONDS[0], "the sidecar may have touched the files again"
            yield Swap(swap, ends)
        finally:
            self.sidecar.process.send_signal(signal.SIGCONT)

    def parsed_after(self, moment: float, dag: str, version: str, seconds: float = READ_SECONDS) -> float:
        """Wait until this version of the DAG's file is parsed, and return how long after ``moment`` that began."""

        def look() -> list[float]:
            self.airflow.check_alive()
            return [at for at, _, found in self.airflow.parsed(dag) if at >= moment and found == version]

        return eventually(f"{dag} to be parsed as {version}", look, seconds)[0] - moment

    def known_after(self, moment: float, what: str, look: Callable[[], Any], seconds: float = READ_SECONDS) -> float:
        """Wait for something that Airflow's database is to show, and return how long after ``moment`` that was."""
        eventually(what, lambda: look() or time.sleep(0.1), seconds)
        return time.time() - moment

    def read_early(self, since: float, but: Collection[str] = ()) -> list[str]:
        """The DAGs, ``but`` these, whose file was read twice within its interval, the second time after ``since``."""
        last: dict[str, float] = {}
        early = []
        for at, name, _ in self.airflow.parsed():
            if name not in but and at > since and at - last.get(name, 0) < self.interval - 0.5:
                early.append(name)
            last[name] = at
        return early

    def stop(self) -> None:
        self.airflow.stop()
        for process in (self.sidecar, self.server):
            process.stop(expected=None)


@pytest.fixture(scope="module")
def make_site(tmp_path_factory, postgres) -> Iterator[Callable[..., Site]]:
    """Make sites that live as long as the module's tests."""
    sites: list[Site] = []

    def make(major: int, *flags: str, **settings: str) -> Site:
        folder = tmp_path_factory.mktemp(f"airflow-{major}")
        site = Site(folder, postgres, major, *flags, **settings)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.stop()
        shutil.rmtree(site.airflow.home, ignore_errors=True)


@pytest.fixture
def measured(record_property, capsys, request) -> Callable[[str, float], None]:
    """Print a figure for docs/how-to/tune-airflow.md."""

    def note(what: str, seconds: float) -> None:
        record_property(what, seconds)
        with capsys.disabled():
            sys.stdout.write(f"\n[{request.node.name}] {what}: {seconds:.1f} s\n")

    return note


# --- the DAG bundle by itself ----------------------------------------------------------------------------------------


@pytest.fixture
def python(tmp_path) -> Callable[..., Any]:
    """Run code in Airflow's environment: see ``run_in``."""
    return lambda *args: run_in(tmp_path, *args)


@pytest.fixture
def three(serve, tmp_path):
    """A server with three versions that were live one after the other, and no folder of any of them."""
    server = serve()
    versions = []
    (tmp_path / "bundles/prod").mkdir(parents=True)
    with contextlib.closing(dagferry_follow.remote.server.Server(server.url, "default", agent="test")) as connection:
        for files in (A, B, C):
            versions.append(server.deploy(files)["version"])
            with LiveTree(str(tmp_path / "bundles/prod/live")) as live:
                live.apply(connection.current("", 0, None), connection)
    return server, versions
