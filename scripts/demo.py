"""The main job, shown: a server, three sidecars, a deploy of examples/dags, a changed DAG, each step with its time.

On a terminal everything keeps running until Ctrl-C; otherwise it ends by itself. ``make run`` calls it.
"""

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
PODS = ("scheduler", "dag-processor", "worker")
PATIENCE_SECONDS = 60
POLL_SECONDS = 0.002


def port(wanted: int) -> int:
    """Return ``wanted`` if it is free on loopback, else some free port."""
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
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        for name, process in processes.items():
            if process.poll() is not None:
                log = (WORK / f"{name}.log").read_text()
                sys.exit(f"{name} ended with exit code {process.returncode}:\n{log}")
        if time.monotonic() > deadline:
            sys.exit(f"Gave up on: {what}. The logs are in {WORK}.")
        time.sleep(POLL_SECONDS)


def answers(url: str) -> bool:
    """Tell whether ``url`` answers with 200."""
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


def deploy(url: str, dags: Path, live: Callable[[str], bool], processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Upload ``dags``, wait until every pod runs it, and print how long each step took."""
    packed = pack(dags)
    began = time.perf_counter()
    request = urllib.request.Request(f"{url}/upload?description=make+run", packed, method="POST")  # noqa: S310
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
        told = json.load(answer)
    stored = time.perf_counter()
    wait("the sidecars to swap", lambda: live(told["version"]), processes)
    swapped = time.perf_counter()
    say(f"deployed {len(packed)} bytes: {told['added']} added, {told['changed']} changed, {told['removed']} removed")
    say(f"  stored as version {told['version']}", stored - began)
    say(f"  live in all {len(PODS)} pods, none restarted", swapped - stored)


def say(text: str, seconds: float | None = None) -> None:
    """Print a step, with the time it took."""
    timed = "" if seconds is None else f"{seconds * 1000:8.0f} ms"
    print(f"{text:<78}{timed}".rstrip(), flush=True)  # noqa: T201 - this is what the demo is for


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
        "server", "dagferry_server", "--data-dir", str(WORK / "data"), "--listen", url.removeprefix("http://")
    )
    wait("the server", lambda: answers(f"{url}/healthz"), processes)
    say(f"server listens on {url}", time.perf_counter() - began)

    began = time.perf_counter()
    probes = {pod: f"127.0.0.1:{port(8001 + number)}" for number, pod in enumerate(PODS)}
    for pod, root in roots.items():
        processes[pod] = start(
            pod, "dagferry_sidecar", "--server", url, "--root", str(root), "--listen", probes[pod], "--component", pod,
            "--instance", f"{pod}-0",
        )  # fmt: skip
    # Not /readyz: that is 503 until there is a first deploy.
    wait("the sidecars", lambda: all(answers(f"http://{probe}/healthz") for probe in probes.values()), processes)
    say("three sidecars follow it, each with a dags folder of its own", time.perf_counter() - began)

    dags = WORK / "dags"
    shutil.copytree(HOME / "examples" / "dags", dags)
    deploy(url, dags, live, processes)
    for root in roots.values():
        say(f"    {(root / 'current').relative_to(HOME)} -> {os.readlink(root / 'current')}")
    changed = min(dags.glob("*.py"))
    changed.write_text(changed.read_text() + "\n# changed by make run\n")
    say(f"changed one line of {changed.name}")
    deploy(url, dags, live, processes)
    trees = len(list((roots[PODS[0]] / ".trees").glob("*/2*")))
    say(f"the old version is still there for tasks that run: {trees} trees")


def main() -> int:
    """Show the main job; end with 0 if all of it happened."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    url = f"http://127.0.0.1:{port(8000)}"
    processes: dict[str, subprocess.Popen[bytes]] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        show(url, processes)
        if sys.stdin.isatty():
            say("\nDeploy a folder of your own:  tar -czf dags.tar.gz dags")
            say(f"                              curl --fail-with-body -F file=@dags.tar.gz {url}/upload")
            say("Ctrl-C ends it.")
            signal.pause()
    except KeyboardInterrupt:
        say("")
    finally:
        for process in reversed(list(processes.values())):
            process.terminate()
        for process in processes.values():
            process.wait(PATIENCE_SECONDS)
    say("all ended cleanly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
