"""Real processes for tests: a server, sidecars, and a client that uploads as curl does."""

import contextlib
import gzip
import io
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

PATIENCE_SECONDS = 30
OTHER_USER = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups")
"""What runs a command as somebody else, for root."""
FIRST_PORT = 20_000
_CHANCE = random.SystemRandom()  # not the seeded one: other test runs on this machine choose too
Found = TypeVar("Found")


def free_port() -> int:
    """A port on loopback that is free, that no other worker of this test run gets, and no client gets by itself.

    A port that the kernel chooses may go to somebody's connection before a server listens on it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(
        FIRST_PORT + worker, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]), workers
    )
    while True:
        port = _CHANCE.choice(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def others_can_run_python() -> bool:
    """Return whether this test may play another user: it is root, and this Python is not in a closed home folder."""
    if os.geteuid() != 0:
        return False
    return subprocess.run([*OTHER_USER, sys.executable, "-c", "import dagferry_core"], check=False).returncode == 0


def eventually(what: str, look: Callable[[], Found], seconds: float = PATIENCE_SECONDS) -> Found:
    """Return what ``look`` finds as soon as that is true; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"gave up waiting for: {what}"
        time.sleep(0.01)
    return found


def pack(files: Mapping[str, bytes], prefix: str = "dags/") -> bytes:
    """A tar.gz of these files under ``dags/``, as ``tar -czf dags.tar.gz dags`` makes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(prefix + path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), 1)


def tree(folder: Path) -> dict[str, bytes]:
    """What is in a folder: path to content."""
    found = {}
    for parent, _, names in os.walk(f"{folder}/"):
        for name in names:
            path = Path(parent, name)
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


class Process:
    """A Dagferry command under test; its log goes to a file. ``python`` is who has the command."""

    python: str | Path = sys.executable

    def __init__(self, log: Path, *command: str, wrapper: tuple[str, ...] = (), **environment: str) -> None:
        self.log = log
        self.process = self._launch(command, wrapper, environment)

    def _launch(
        self, command: tuple[str, ...], wrapper: tuple[str, ...], environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [*wrapper, self.python, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **environment},
            )

    def logged(self) -> list[dict[str, Any]]:
        """The lines of the log, each a JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self, expected: int | None = 0) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_SECONDS)
        assert expected is None or code == expected, self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server(Process):
    """``dagferry-server`` on a data folder. ``headers`` are sent with every request; ``ca_file`` is whom to trust."""

    def __init__(self, data: Path, *flags: str, port: int | None = None, **options: Any) -> None:
        self.data = data
        self.port = port or free_port()
        self.ca_file = flags[flags.index("--tls-cert") + 1] if "--tls-cert" in flags else None
        self.url = f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}"
        self.headers: dict[str, str] = {}
        super().__init__(
            data.with_suffix(".log"), "dagferry_server", "--data-dir", str(data), "--listen", f"127.0.0.1:{self.port}",
            *flags, **options,
        )  # fmt: skip

    def ready(self) -> "Server":
        def look() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return self.get("/healthz")[0] == 200
            except OSError:
                return False

        eventually("the server to be ready", look)
        return self

    def request(
        self, path: str, body: bytes | None = None, *, method: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body of a call; an error status is no exception. ``method`` is GET or POST if not given."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.url + path, body, sent, method=method)
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS, context=context) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self.request(path, None, **headers)

    def deploy(
        self, files: Mapping[str, bytes] | bytes, deployment: str = "default", query: str = ""
    ) -> dict[str, Any]:
        """Upload and return the answer; fail unless it is 200."""
        packed = files if isinstance(files, bytes) else pack(files)
        status, body = self.request(f"/{deployment}/dags/upload{query}", packed)
        assert status == 200, body
        return json.loads(body)

    def rollback(self, version: str, deployment: str = "default") -> dict[str, Any]:
        """Roll back and return the answer; fail unless it is 200."""
        body = json.dumps({"version": version}).encode()
        status, answer = self.request(f"/{deployment}/dags/rollback", body, Content_Type="application/json")
        assert status == 200, answer
        return json.loads(answer)

    def current(self, deployment: str = "default") -> dict[str, Any]:
        return json.loads(self.get(f"/{deployment}/dags/current")[1])


class Sidecar(Process):
    """``dagferry-sidecar`` on a root folder, with short pauses unless told otherwise."""

    def __init__(self, server: str, root: Path, *flags: str, **options: Any) -> None:
        self.root = root
        self.port = free_port()
        defaults = {"--poll-interval": "0.2", "--listen": f"127.0.0.1:{self.port}", "--instance": root.name}
        given = [word for flag, value in defaults.items() if flag not in flags for word in (flag, value)]
        super().__init__(
            root.with_suffix(".log"), "dagferry_sidecar", "--server", server, "--root", str(root), *given, *flags,
            **options,
        )  # fmt: skip

    @property
    def live(self) -> str | None:
        """The live version: what ``current`` points at."""
        try:
            return os.path.basename(os.readlink(self.root / "current"))
        except OSError:  # not there, or no link
            return None

    def runs(self, version: str) -> "Sidecar":
        def look() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.live == version

        eventually(f"{self.root.name} to run {version}", look)
        return self

    def tree(self) -> dict[str, bytes]:
        return tree(self.root / "current")

    def probe(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The value of a sample, named with its labels as in the exposition; 0 where there is none."""
        for line in self.probe("/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0
