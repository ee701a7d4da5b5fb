"""Real Airflow for tests: PostgreSQL, and the processes of one Airflow, each major in its own environment."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import PATIENCE_SECONDS, eventually, free_port

HOME = Path(__file__).parents[1]
ENVIRONMENTS = Path(os.environ.get("AIRFLOW_ENVIRONMENTS", HOME))
START_SECONDS = 300
"""For what takes up to 20 s on two idle cores: making the tables, the first answer of the API server."""
PARSED_SECONDS = 180
"""For all parses of a test's DAGs to end, which takes 10 s on two idle cores."""
QUIET_SECONDS = 2
"""The dag processor starts parses once a second: when it has started none for longer, none is waiting for its turn."""

RECOMMENDED = {
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "2",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
}
"""The settings of docs/how-to/tune-airflow.md; each major reads those it knows."""


def environment_of(major: int) -> Path:
    """The environment with this Airflow; the test is skipped where there is none, but not in CI."""
    folder = ENVIRONMENTS / f".venv-airflow-{major}"
    if not (folder / "plugin").exists() and not os.environ.get("CI"):
        pytest.skip(f"no Airflow {major}: run tests/airflow/make_environments")
    return folder


class Postgres:
    """A PostgreSQL server that keeps nothing safe, so that it is fast, and leaves nothing behind."""

    def __init__(self) -> None:
        self.port = free_port()
        self.binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        # PostgreSQL refuses to run as root.
        self.user = pwd.getpwnam("postgres").pw_name if os.getuid() == 0 else None
        # Not below pytest's own folder: each session of pytest that starts closes that one to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="dagferry-postgres-"))
        if self.user:
            shutil.chown(self.folder, self.user)
        self._run("initdb", "-A", "trust", "-U", "airflow", "--no-sync", "-D", str(self.folder / "data"))
        options = f"-p {self.port} -k {self.folder} -c fsync=off -c full_page_writes=off -c max_connections=300"
        self._run(
            "pg_ctl", "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def _run(self, command: str, *words: str) -> None:
        subprocess.run(
            [self.binaries / command, *words], check=True, user=self.user, stdout=subprocess.DEVNULL, cwd=self.folder
        )

    def sql(self, database: str, query: str) -> list[list[str]]:
        """The rows of a query, as text."""
        words = ["-XtAq", "-F", "\t", "-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow", "-c", query, database]
        out = subprocess.run([self.binaries / "psql", *words], check=True, capture_output=True, text=True).stdout
        return [line.split("\t") for line in out.splitlines()]

    def url(self, database: str) -> str:
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "-D", str(self.folder / "data"), "stop")
        shutil.rmtree(self.folder)


def is_helper(process: str) -> bool:
    """Whether a child of the dag processor is the plugin's, which reports what others have parsed."""
    with contextlib.suppress(OSError):
        return b"dagferry reports" in Path("/proc", process, "cmdline").read_bytes()
    return False


class Airflow:
    """One Airflow: its database, its settings, its processes, which ``stop`` ends."""

    def __init__(self, postgres: Postgres, major: int, home: Path, dags: str, **settings: str) -> None:
        self.major, self.home, self.postgres = major, home, postgres
        self.environment = environment_of(major)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.database = f"airflow_{major}_{time.monotonic_ns()}"
        self.api = free_port()
        home.mkdir(parents=True)
        self.parses = home / "parses"
        self.parses.touch()
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": dags,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.api}/execution/",
            # A task fails whose first request takes longer: 5 s by default.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": str(START_SECONDS),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{self.api}",
            "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
            "AIRFLOW__API__SECRET_KEY": "no secret either",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url(self.database),
            "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "PARSES": str(self.parses),
            "PYTHONPATH": str(HOME / "tests/airflow/executors"),
            **settings,
        }
        self._make_database()

    def _make_database(self) -> None:
        # Making the tables takes 10 s, copying them 0.3 s.
        template = f"template_{self.major}"
        if [template] not in self.postgres.sql("postgres", "select datname from pg_database"):
            self.postgres.sql("postgres", f"create database {template}")
            variables = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.url(template)}
            self.command("db", "migrate", **variables)
        self.postgres.sql("postgres", f"create database {self.database} template {template}")

    def plug_in(self) -> "Airflow":
        """Let it find ``dagferry_airflow``, as if that were installed beside it."""
        ours = [HOME / package for package in ("core", "follow", "airflow_plugin")]
        folders = [self.variables["PYTHONPATH"], *ours, self.environment / "plugin"]
        self.variables["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        return self

    # --- processes ---------------------------------------------------------------------------------------------------

    def command(self, *words: str, **variables: str) -> str:
        """Run an ``airflow`` command to its end and return what it printed."""
        done = subprocess.run(
            [self.environment / "bin/python", "-m", "airflow", *words], check=False, capture_output=True, text=True,
            env={**self.variables, **variables}, cwd=self.home, timeout=START_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *words: str, **variables: str) -> None:
        """Start a component: ``dag-processor``, ``scheduler``, ``api-server``, …"""
        with (self.home / f"{words[0]}.log").open("ab") as out:
            self.processes[words[0]] = subprocess.Popen(
                [self.environment / "bin/python", "-m", "airflow", *words], env={**self.variables, **variables},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.home, start_new_session=True,
            )  # fmt: skip

    def start_api(self) -> None:
        """Start the API server of Airflow 3 and wait until it answers."""
        self.start("api-server", "--host", "127.0.0.1", "--port", str(self.api), "--workers", "1")

        def answers() -> bool:
            self.check_alive()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.api}/api/v2/version"):
                return True
            return False

        eventually("the API server to answer", answers, START_SECONDS)

    def check_alive(self) -> None:
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended: {self.log(name)[-4000:]}"

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")

    def parses_now(self) -> bool:
        """Whether there is a parse whose end the dag processor has not noted yet: it hides a change made before that.

        The process of a parse is a child of the dag processor until that has noted the end. Airflow 3 lets go of the
        child first, but closes the parse's log afterwards.
        """
        processor = Path("/proc", str(self.processes["dag-processor"].pid))
        children = [child for task in processor.glob("task/*/children") for child in task.read_text().split()]
        if any(not is_helper(child) for child in children):
            return True
        for descriptor in processor.glob("fd/*"):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(descriptor).endswith(".py.log"):
                    return True
        return False

    @contextlib.contextmanager
    def between_parses(self, when: Callable[[], object] = lambda: True) -> Iterator[None]:
        """Let the dag processor stand still for the block, which begins when it parses nothing and ``when`` is true.

        So no parse is under way when something is swapped in the block, however slow the machine is.
        """
        processor = self.processes["dag-processor"]
        busy = time.monotonic()

        def stands_still() -> bool:
            nonlocal busy
            self.check_alive()
            if self.parses_now():
                busy = time.monotonic()
            if time.monotonic() - busy < QUIET_SECONDS or not when():
                return False
            processor.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, processor.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if not self.parses_now():
                return True
            processor.send_signal(signal.SIGCONT)
            return False

        eventually("a moment without a parse", stands_still, PARSED_SECONDS)
        try:
            yield
        finally:
            processor.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the processes, and all that they have started."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait(PATIENCE_SECONDS)

    # --- what Airflow knows ------------------------------------------------------------------------------------------

    def sql(self, query: str) -> list[list[str]]:
        return self.postgres.sql(self.database, query)

    def dags(self) -> set[str]:
        """The DAGs that the UI lists."""
        column = "not is_stale" if self.major >= 3 else "is_active"
        return {row[0] for row in self.sql(f"select dag_id from dag where {column}")}

    def tags(self, dag: str) -> set[str]:
        """The tags of a DAG: the DAGs of these tests carry their version as one."""
        return {row[0] for row in self.sql(f"select name from dag_tag where dag_id = '{dag}'")}

    def serialized_as(self, dag: str, version: str) -> bool:
        """Whether what the scheduler and the UI work with is this version of the DAG."""
        query = f"select data::text from serialized_dag where dag_id = '{dag}' order by last_updated desc limit 1"
        return any(f'"v{version}"' in row[0] for row in self.sql(query))

    def import_errors(self) -> list[str]:
        return [row[0] for row in self.sql("select filename from import_error")]

    def parsed(self, dag: str = "") -> list[tuple[float, str, str]]:
        """Each parse of a DAG's file that has begun: when, which DAG, which version."""
        lines = [line.split() for line in self.parses.read_text().splitlines()]
        return [(float(moment), name, version) for moment, name, version in lines if dag in {"", name}]

    def last_parsed(self, dag: str) -> float:
        """When the last parse of a DAG's file began; 0: never."""
        return max((at for at, _, _ in self.parsed(dag)), default=0.0)


DAG = """
import os, time
from datetime import datetime

{imports}
with open(os.environ["PARSES"], "a") as parses:
    parses.write(f"{{time.time()}} {dag} {{{version}}}\\n")
{code}
from airflow import DAG
with DAG("{dag}", start_date=datetime(2026, 1, 1), schedule=None, tags=[f"v{{{version}}}"]):
    pass
"""


def dag_file(dag: str, version: str, imports: str = "", code: str = "") -> bytes:
    """A DAG that notes when it is parsed, and has its version, a Python expression, as a tag."""
    return DAG.format(dag=dag, version=version, imports=imports, code=code).encode()
