"""Fixtures of the tests with real Airflow."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import dagferry_follow.remote.server
from airflows import Airflow, Postgres, environment_of
from bundle_runner import A, B, C, run_in
from dagferry_airflow.live import LiveTree
from harness import Server, Sidecar, eventually


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    environment_of(3)  # nothing is started where the tests are skipped
    server = Postgres()
    yield server
    server.stop()


QUIET_SECONDS = 2
"""A parse that began longer ago has ended, where the test's DAGs do not sleep."""


class Site:
    """A server, a sidecar, and an Airflow that reads what the sidecar publishes."""

    def __init__(self, folder: Path, postgres: Postgres, major: int, *flags: str, **settings: str) -> None:
        self.airflow = Airflow(postgres, major, folder / "airflow", str(folder / "pod/current"), **settings)
        self.server = Server(folder / "data").ready()
        # Flags may name what is known only now, as in "{airflow.home}/credentials".
        self.sidecar = Sidecar(self.server.url, folder / "pod", *(flag.format(airflow=self.airflow) for flag in flags))
        self.files: dict[str, bytes] = {}

    def deploy(self, change: Mapping[str, bytes | None], *, quiet: bool = True) -> float:
        """Deploy with these files changed (``None``: removed); return the moment at which they were live.

        ``quiet``: wait first until no parse is under way, because one that ends after the swap hides it for 10 s.
        """
        if quiet:
            eventually("the parses to end", lambda: time.time() - self.airflow.last_parsed() > QUIET_SECONDS)
        self.files = {path: content for path, content in {**self.files, **change}.items() if content is not None}
        self.sidecar.runs(self.server.deploy(self.files)["version"])
        return time.time()

    def parsed_after(self, moment: float, dag: str, version: str, seconds: float) -> float:
        """Wait until this version of the DAG's file is parsed, and return how long after ``moment`` that began."""

        def look() -> list[float]:
            self.airflow.check_alive()
            return [at for at, _, found in self.airflow.parsed(dag) if at >= moment and found == version]

        return eventually(f"{dag} to be parsed as {version}", look, seconds)[0] - moment

    def known_after(self, moment: float, what: str, look: Callable[[], Any], seconds: float) -> float:
        """Wait for something that Airflow's database is to show, and return how long after ``moment`` that was."""
        eventually(what, lambda: look() or time.sleep(0.1), seconds)
        return time.time() - moment

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
