"""Measures an upload to a server with many deployments and long logs, and how its retention affects other requests."""

import hashlib
import http.client
import io
import json
import os
import random
import secrets
import statistics
import tarfile
import threading
import time
from functools import partial
from pathlib import Path

from dagferry_core.deploylog import Deploy
from dagferry_core.names import make_version
from harness import Server, eventually

DEPLOYMENTS = 50
DEPLOYS = 5_000
"""In each; every one has a bundle of its own that is stored still."""
UPLOADS = 20
UPLOAD_BYTES = 1_000_000
PAUSE_SECONDS = 0.5
"""Between two uploads, so that retention runs during some of them and between others."""
PROBE_SECONDS = 0.005
START_SECONDS = 300


def fill(folder: Path, name: str) -> None:
    """Write a log as the server would have, one deploy a minute until now; the bundles are empty files."""
    for place in ("deploys", "bundles"):
        (folder / name / place).mkdir(parents=True)
    (folder / name / "log.json").write_text(json.dumps({"log_id": secrets.token_hex(16)}))
    deploys, bundles = str(folder / name / "deploys"), str(folder / name / "bundles")
    now = int(time.time())
    for sequence in range(1, DEPLOYS + 1):
        moment = now - (DEPLOYS - sequence) * 60
        hexadecimal = hashlib.sha256(f"{name} {sequence}".encode()).hexdigest()
        version = make_version(moment, sequence)
        entry = Deploy(sequence, version, f"sha256:{hexadecimal}", "upload", "", "token:ci", moment, 0, 1, 0)
        with open(f"{deploys}/{sequence:012d}.json", "wb") as file:
            file.write(entry.encode())
        for end in ("tar.zst", "index"):
            os.close(os.open(f"{bundles}/{hexadecimal}.{end}", os.O_CREAT | os.O_WRONLY, 0o644))


def body_of(number: int) -> bytes:
    """An upload of about ``UPLOAD_BYTES``, of which a tenth changes each time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for part in range(10):
            content = random.Random(part or -number).randbytes(UPLOAD_BYTES // 10)
            member = tarfile.TarInfo(f"dags/part_{part}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Probe(threading.Thread):
    """Requests /healthz over one connection, and records how long each response took."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._port = port
        self._end = threading.Event()

    def run(self) -> None:
        """Send requests until the end."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._end.wait(PROBE_SECONDS):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            self.seconds.append(time.perf_counter() - began)
        connection.close()

    def end(self) -> None:
        """Stop asking."""
        self._end.set()
        self.join()


def answers(server: Server) -> bool:
    """Return whether the server has started; it reads every entry first."""
    try:
        return server.get("/healthz")[0] == 200
    except OSError:
        return False


def measure(folder: Path) -> tuple[list[float], list[float]]:
    """Return how long each upload and each answer of /healthz took, in seconds."""
    names = [f"team-{number}" for number in range(DEPLOYMENTS)]
    for name in names:
        fill(folder, name)
    server = Server(folder, "--deployments", ",".join(names))
    eventually("the server to have read its logs", partial(answers, server), START_SECONDS)
    bodies = [body_of(number) for number in range(UPLOADS + 1)]
    server.deploy(bodies.pop(), deployment=names[0])
    time.sleep(PAUSE_SECONDS)
    probe = Probe(server.port)
    probe.start()
    uploads = []
    for body in bodies:
        began = time.perf_counter()
        server.deploy(body, deployment=names[0])
        uploads.append(time.perf_counter() - began)
        time.sleep(PAUSE_SECONDS)
    probe.end()
    server.stop()
    return uploads, probe.seconds


def p99(seconds: list[float]) -> float:
    """The value that one in a hundred is above."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[98]
