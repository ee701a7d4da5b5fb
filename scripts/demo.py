"""A demonstration: a server, three sidecars, a deploy of examples/dags, and a changed DAG; each step with its duration.

On a terminal everything keeps running until Ctrl-C, and it prints what to type next; otherwise it ends by itself. What
was deployed stays in .run, and the next demonstration continues with it. ``make run`` calls it.
"""

import fcntl
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
WORK = HOME / ".run"
DAGS = WORK / "dags"
LOCK = WORK / "lock"
"""Locked while a demonstration runs; its content is the URL of the server."""
DEPLOYMENT = "prod"
PODS = ("scheduler", "dag-processor", "worker")
TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.002


def port(wanted: int) -> int:
    """Return ``wanted`` if that port is free on loopback, else any free port."""
    for number in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    sys.exit("There is no free port on 127.0.0.1.")


def start(name: str, *command: str) -> subprocess.Popen[bytes]:
    """Start a Dagferry command; its log goes to .run/<name>.log."""
    log = (WORK / f"{name}.log").open("wb")
    return subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603


def wait(what: str, done: Callable[[], bool], processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait until ``done``; give up when a process ended or after a minute, and say whose log to read."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not done():
        for name, process in processes.items():
            if process.poll() is not None:
                log = (WORK / f"{name}.log").read_text()
                sys.exit(f"{name} ended with exit code {process.returncode}:\n{log}")
        if time.monotonic() > deadline:
            sys.exit(f"Gave up on: {what}. The logs are in {WORK}.")
        time.sleep(POLL_SECONDS)


def answers(url: str) -> bool:
    """Return whether ``url`` answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, ConnectionError):
        return False


def pack(dags: Path) -> bytes:
    """Pack a dags folder as ``tar -czf dags.tar.gz dags`` does."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(dags, "dags")
    return packed.getvalue()


def deploy(url: str, live: Callable[[str], bool], processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Upload the dags folder, wait until every pod runs it, and print how long each step took."""
    packed = pack(DAGS)
    began = time.perf_counter()
    target = f"{url}/{DEPLOYMENT}/dags/upload?description=make+run"
    request = urllib.request.Request(target, packed, method="POST")  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
        answer = json.load(response)
    stored = time.perf_counter()
    wait("the sidecars to swap", lambda: live(answer["version"]), processes)
    swapped = time.perf_counter()
    if answer["unchanged"]:
        say(f"uploaded {len(packed)} bytes: the same content as before, version {answer['version']}", stored - began)
    else:
        counts = ", ".join(f"{answer[kind]} {kind}" for kind in ("added", "changed", "removed"))
        say(f"deployed {len(packed)} bytes: {counts}")
        say(f"  stored as version {answer['version']}", stored - began)
    say(f"  live in all {len(PODS)} pods, none restarted", swapped - stored)


def say(text: str, seconds: float | None = None) -> None:
    """Print a step, with the time it took."""
    timed = "" if seconds is None else f"{seconds * 1000:8.0f} ms"
    print(f"{text:<78}{timed}".rstrip(), flush=True)  # noqa: T201 - a command's output


def show(url: str, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Run the demonstration against the server at ``url``."""
    roots = {pod: WORK / pod / "dags" for pod in PODS}

    def live(version: str) -> bool:
        return all(
            (root / "current").is_symlink() and os.readlink(root / "current").endswith(version)
            for root in roots.values()
        )

    began = time.perf_counter()
    processes["server"] = start(
        "server", "dagferry_server", "--data-dir", str(WORK / "data"), "--deployments", DEPLOYMENT,
        "--listen", url.removeprefix("http://"),
    )  # fmt: skip
    wait("the server", lambda: answers(f"{url}/healthz"), processes)
    say(f"server listens on {url}", time.perf_counter() - began)

    began = time.perf_counter()
    probes = {pod: f"127.0.0.1:{port(8001 + number)}" for number, pod in enumerate(PODS)}
    for pod, root in roots.items():
        processes[pod] = start(
            pod, "dagferry_sidecar", "--server", url, "--deployment", DEPLOYMENT, "--root", str(root),
            "--listen", probes[pod], "--component", pod, "--instance", f"{pod}-0",
        )  # fmt: skip
    # Not /readyz: that is 503 until there is a first deploy.
    wait("the sidecars", lambda: all(answers(f"http://{probe}/healthz") for probe in probes.values()), processes)
    say("three sidecars follow it, each with a dags folder of its own", time.perf_counter() - began)

    if not DAGS.exists():
        shutil.copytree(HOME / "examples" / "dags", DAGS)
    deploy(url, live, processes)
    for root in roots.values():
        say(f"    {(root / 'current').relative_to(HOME)} -> {os.readlink(root / 'current')}")
    changed = min(DAGS.glob("*.py"))
    with changed.open("a") as file:
        file.write(f"\n# changed by make run at {time.strftime('%H:%M:%S')}\n")
    say(f"changed one line of {changed.name}")
    deploy(url, live, processes)
    trees = len(list((roots[PODS[0]] / ".trees").glob("*/2*")))
    say(f"old versions stay for tasks that are running: {trees} trees in each pod")
    say("dagferry status shows the same from the server's side:")
    status(url)


def status(url: str) -> None:
    """Print what ``dagferry status`` prints, whatever this machine's settings for it are."""
    command = [sys.executable, "-m", "dagferry_client", "status", "--server", url, "--deployment", DEPLOYMENT]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGFERRY_")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
    for line in done.stdout.splitlines():
        say(f"    {line}")


NEXT = """
The server and the sidecars keep running. Try this in a second terminal, in {home}:

  echo '# my change' >> .run/dags/orders_hourly.py
  .venv/bin/dagferry deploy .run/dags --server {url} --deployment {deployment}
  tail -n 1 .run/*/dags/current/orders_hourly.py

In a browser:     {url}
See every pod:    .venv/bin/dagferry status --server {url} --deployment {deployment}
See all deploys:  .venv/bin/dagferry history --server {url} --deployment {deployment}
See the logs:     tail -n 3 .run/*.log

Without dagferry:

  tar -czf .run/dags.tar.gz -C .run dags
  curl --fail-with-body -F dags.tar.gz=@.run/dags.tar.gz {url}/{deployment}/dags/upload

Press Ctrl-C to stop everything. The data stays in .run; the next "make run" continues with it."""


def lock() -> int | None:
    """Return a locked file descriptor of ``LOCK``, or None if another demonstration has it."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def main() -> int:
    """Run the demonstration; return 0 if it completed, 1 if another one is running."""
    WORK.mkdir(exist_ok=True)
    locked = lock()
    if locked is None:
        say(f"A demonstration is running already, with its server on {LOCK.read_text().strip() or '(starting)'}.")
        say("Use that one, or stop it first: press Ctrl-C in its terminal.")
        return 1
    if (WORK / "data").exists():
        say("continues with the data in .run of the last run; make clean would remove it")
    url = f"http://127.0.0.1:{port(8000)}"
    LOCK.write_text(url)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit(0))
    terminal = sys.stdin.isatty()
    try:
        show(url, processes)
        if terminal:
            say(NEXT.format(home=HOME, url=url, deployment=DEPLOYMENT))
            signal.pause()
    except KeyboardInterrupt:
        say("")
    finally:
        for process in reversed(list(processes.values())):
            process.terminate()
        for process in processes.values():
            process.wait(TIMEOUT_SECONDS)
        os.close(locked)
    if terminal:
        say("The server and the sidecars have stopped.")
    else:
        say("The demonstration has ended, because this is not a terminal: the server and the sidecars have stopped.")
        say("On a terminal, make run keeps them running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
