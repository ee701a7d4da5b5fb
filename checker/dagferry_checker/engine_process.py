"""Starts the engine, asks it, and replaces it: after many files, when it has grown, has ended, or hangs."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_checker.environment import engine_environment
from dagferry_checker.errors import AirflowMissing, ImportCheckFailed
from dagferry_checker.leftovers import remove_tree
from dagferry_checker.limits import Limits, kill_strays
from dagferry_checker.problems import (
    MAX_ID_CHARACTERS,
    MAX_NAME_CHARACTERS,
    Fault,
    Kind,
    Outcome,
    first_names,
)
from dagferry_checker.traces import read_fault_log, read_trace, without_scratch

START_SECONDS = 120.0
"""How long Airflow's import may take: 2 to 5 s where nothing else runs."""
START_HINT = "Look at the checker's limits of CPU, memory and processes, and try: python -c 'import airflow'"
LIST_SECONDS = 60.0
SILENCE_SECONDS = 30.0
"""How much longer than the time of a file the engine may be silent."""
STOP_SECONDS = 5.0
MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_FILES_PER_ENGINE = 20_000
"""After so many files the engine is replaced."""
MAX_GROWTH_BYTES = 256 * 1024 * 1024
HEARTBEAT_SECONDS = 1.0
MAX_BLAMED = 3
"""How many files of a check may end the engine; each costs two of its starts."""
MAX_SHOWN_BYTES = 1000
_STDERR = "stderr"
_ENDED_PARENT = "The process that imports DAG files was ended or stopped, twice, while it imported this file."
_NUMBER = (int, float)
_MAX_NUMBER = 1 << 62
_ENDED: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "result": (dict, type(None)),
    "signal": _NUMBER,
    "code": _NUMBER,
    "timed_out": (bool,),
    "fault": (str,),
    "seconds": _NUMBER,
    "starved": (bool,),
}
"""What the engine says of each child. A DAG file may find a way to write in its place."""
_SIGNAL_NAMES = {number.value: number.name for number in signal.Signals}

Heartbeat = Callable[[], bool]
"""Called about once a second while the engine works; false: the result is not wanted any more."""


class Versions(NamedTuple):
    """The versions of Airflow and Python that check."""

    airflow: str
    python: str


class Settings(NamedTuple):
    """How the engine runs: children at a time, seconds and bytes of memory of each, ``stub`` or ``env``."""

    jobs: int
    limits: Limits
    variables: str


class _EngineEnded(ImportCheckFailed):
    """The engine ended or hung while it worked."""


class Unwanted(Exception):
    """The result of a check is not wanted any more."""


class Engine:
    """The engine's process; it is started when it is needed. ``scratch`` is a folder of this process alone.

    ``command`` starts it; tests have another one than ``python -m dagferry_checker.engine``.
    """

    def __init__(
        self,
        settings: Settings,
        scratch: str,
        environment: Mapping[str, str],
        command: Sequence[str] = (sys.executable, "-m", "dagferry_checker.engine"),
    ) -> None:
        self._settings = settings
        self._scratch = scratch
        self._environment = environment
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._home = ""
        self._buffer = bytearray()
        self._files = 0
        self._memory: int | None = None
        self._versions: Versions | None = None
        self.starts = 0
        """How often an engine was started."""

    @property
    def versions(self) -> Versions:
        """The versions; starts the engine if it never ran. ``AirflowMissing`` and ``ImportCheckFailed``."""
        if self._versions is None:
            self._ensure()
        if self._versions is None:
            raise ImportCheckFailed("The engine did not say which Airflow it has.")
        return self._versions

    # --- its life ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill the engine and all that it started."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
            kill_strays(())
        self._buffer.clear()
        self._files, self._memory = 0, None
        if self._home:
            remove_tree(self._home)
            self._home = ""

    def _ensure(self) -> subprocess.Popen[bytes]:
        if self._process and self._process.poll() is None:
            return self._process
        self.close()
        try:
            os.makedirs(self._scratch, exist_ok=True)  # a DAG file may have removed it
            self._home = tempfile.mkdtemp(prefix="engine-", dir=self._scratch)
        except OSError as error:
            raise ImportCheckFailed(f"The engine has no folder: {error.strerror}.") from error
        variables = self._settings.variables
        environment = engine_environment(
            self._environment, home=self._home, variables=variables, seconds=self._settings.limits.seconds
        )
        if paths := environment.get("PYTHONPATH"):  # the engine has another current folder
            environment["PYTHONPATH"] = os.pathsep.join(
                os.path.abspath(path) for path in paths.split(os.pathsep) if path
            )
        try:
            # A session of its own: Ctrl-C and a signal to the group are for the process that follows.
            with open(f"{self._home}/{_STDERR}", "wb") as errors:
                self._process = subprocess.Popen(  # noqa: S603 - this Python
                    [*self._command, variables], stdin=-1, stdout=-1, stderr=errors, env=environment,
                    cwd=self._home, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise ImportCheckFailed(f"The engine cannot be started: {error.strerror}.") from error
        self.starts += 1
        late = f"Airflow was not imported within {START_SECONDS:g} s."
        try:
            said = self._answer(time.monotonic() + START_SECONDS, lambda: True, late)
        except ImportCheckFailed as error:
            raise ImportCheckFailed(error.message, START_HINT) from error
        if not said.get("ready"):
            self.close()
            text = f"Airflow cannot be imported: {str(said.get('failed'))[:1000]}."
            raise AirflowMissing(text) if said.get("missing") else ImportCheckFailed(text, START_HINT)
        self._versions = Versions(str(said.get("airflow")), str(said.get("python")))
        return self._process

    # --- requests ----------------------------------------------------------------------------------------------------

    def list_files(self, tree: str, heartbeat: Heartbeat = lambda: True) -> list[str]:
        """Return the DAG files of the folder ``tree``, relative to it, sorted."""
        limits = Limits(LIST_SECONDS, self._settings.limits.memory)
        request = {"do": "list", "tree": tree, "jobs": 1, **limits._asdict()}
        for ended in list(self._ask(request, limits.seconds, heartbeat)):
            files = (ended.get("result") or {}).get("files")
            if isinstance(files, list) and all(isinstance(path, str) for path in files):
                return sorted(files)
        raise ImportCheckFailed(
            "Airflow could not list the DAG files: is there a pattern in an .airflowignore that takes long?"
        )

    def parse(self, tree: str, paths: Sequence[str], heartbeat: Heartbeat = lambda: True) -> dict[str, Outcome]:
        """Parse these files of the folder ``tree``, and return the outcome of each.

        A file during whose parse the engine ends or hangs twice has a fault. Raises ``ImportCheckFailed`` if that are
        too many, and ``Unwanted`` if ``heartbeat`` returns false.
        """
        if not paths:
            return {}
        found: dict[str, Outcome] = {}
        jobs, suspect, blamed = self._settings.jobs, "", 0
        while rest := [path for path in paths if path not in found]:
            self._ensure()
            try:
                self._parse(tree, rest, jobs, heartbeat, found)
            except _EngineEnded:
                # A file can end its parent, too. Which one it was shows when they are parsed one after the other.
                ended_at = next((path for path in rest if path not in found), "")
                if jobs == 1 and ended_at == suspect:
                    blamed += 1
                    if blamed > MAX_BLAMED:
                        raise
                    found[ended_at] = Outcome((), (Fault(0, _ENDED_PARENT, Kind.CRASH),), ())
                jobs, suspect = 1, ended_at
            else:
                if missing := [path for path in rest if path not in found]:
                    raise ImportCheckFailed(f"The engine did not parse {len(missing)} of {len(rest)} files.")
        return found

    def _parse(
        self, tree: str, paths: Sequence[str], jobs: int, heartbeat: Heartbeat, found: dict[str, Outcome]
    ) -> None:
        limits = self._settings.limits
        request = {"do": "parse", "tree": tree, "files": list(paths), "jobs": jobs, **limits._asdict()}
        for ended in self._ask(request, limits.seconds, heartbeat):
            if (path := ended.get("name")) in paths and isinstance(path, str):
                found[path] = outcome_of(ended, tree, limits, self._scratch)

    def _ask(self, request: dict[str, Any], seconds: float, heartbeat: Heartbeat) -> Iterator[dict[str, Any]]:
        """Send a request and yield how each child ended; replace an engine that is used up afterwards."""
        process = self._ensure()
        scratch = self._home
        try:
            if process.stdin is None:
                raise ImportCheckFailed("The engine takes no requests.")
            process.stdin.write(json.dumps({**request, "scratch": scratch}).encode() + b"\n")
            process.stdin.flush()
            while True:
                said = self._answer(time.monotonic() + seconds + SILENCE_SECONDS, heartbeat)
                if isinstance(ended := said.get("ended"), dict):
                    self._files += 1
                    yield ended
                elif said.get("done"):
                    break
        except Unwanted:
            self._stop(process)
            raise
        except OSError as error:
            self.close()
            raise _EngineEnded(f"The engine ended: {error.strerror}.") from error
        except BaseException:
            self.close()
            raise
        memory = said.get("memory") if isinstance(said.get("memory"), int) else 0
        if self._memory is None:
            self._memory = memory
        if self._files >= MAX_FILES_PER_ENGINE or (memory or 0) - (self._memory or 0) > MAX_GROWTH_BYTES:
            self.close()

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """Let the engine kill its children and go on; end it if it does not."""
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while not self._answer(deadline, lambda: True).get("done"):
                pass
        except ImportCheckFailed:
            self.close()
        except BaseException:
            self.close()
            raise

    def _answer(
        self, deadline: float, heartbeat: Heartbeat, late: str = "The engine does not answer. It was ended."
    ) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise ImportCheckFailed("The engine is not running.")
        fd = process.stdout.fileno()
        while (end := self._buffer.find(b"\n")) < 0:
            if time.monotonic() > deadline:
                self.close()
                raise _EngineEnded(late)
            ready, _, _ = select.select([fd], [], [], HEARTBEAT_SECONDS)
            if not heartbeat():
                raise Unwanted
            if not ready:
                continue
            piece = os.read(fd, 1 << 16)
            if not piece or len(self._buffer) > MAX_LINE_BYTES:
                code = process.wait() if not piece else "too long an answer"
                last = self._last_words()
                self.close()
                raise _EngineEnded(f"The engine ended ({code}){last}.")
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if (said := _read_answer(line)) is None:
            self.close()
            raise ImportCheckFailed("The engine answered with something else.")
        return said

    def _last_words(self) -> str:
        """Return the last line that the engine printed, as the rest of a sentence."""
        try:
            with open(f"{self._home}/{_STDERR}", "rb") as errors:
                errors.seek(max(os.fstat(errors.fileno()).st_size - MAX_SHOWN_BYTES, 0))
                lines = errors.read(MAX_SHOWN_BYTES).decode(errors="replace").split("\n")
        except OSError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last.rstrip('.')}" if last else ""


def outcome_of(ended: Mapping[str, Any], tree: str, limits: Limits, scratch: str = "") -> Outcome:
    """Return what it means how a child ended. What it says comes from the DAG file's process, and may be anything.

    ``ended`` has the form of ``_ENDED``. Homes in ``scratch`` are shown as ``~``.
    """
    path, seconds = str(ended.get("name")), float(ended.get("seconds") or 0)
    result = ended.get("result")
    if isinstance(result, dict) and not result.get("memory") and not ended.get("timed_out"):
        dags = tuple(dict.fromkeys(dag[:MAX_ID_CHARACTERS] for dag in _texts(result, "dags")))
        faults = [_timed(read_trace(text, path, tree), limits) for text in _texts(result, "errors", scratch)]
        faults += [read_trace(text, path, tree, serialize=True) for text in _texts(result, "serialize", scratch)]
        return Outcome(
            dags, tuple(faults), first_names(name[:MAX_NAME_CHARACTERS] for name in _texts(result, "asked")), seconds
        )
    line, trace = read_fault_log(without_scratch(str(ended.get("fault") or ""), scratch), path, tree)
    kind, message = _how_it_ended(ended, result, limits)
    return Outcome((), (Fault(line, message, kind, trace),), (), seconds)


def _how_it_ended(ended: Mapping[str, Any], result: Any, limits: Limits) -> tuple[Kind, str]:
    killed = ended.get("signal")
    memory = f"{limits.memory / (1 << 20):g} MiB (--memory)"
    if ended.get("timed_out"):
        return Kind.TIMEOUT, _too_long(limits)
    if isinstance(result, dict) or ended.get("starved"):
        return Kind.MEMORY, f"The parse needs more than {memory} of memory."
    if killed == signal.SIGKILL:
        return Kind.MEMORY, "The parse was killed by the system, as it does when memory runs out."
    if killed:
        return Kind.CRASH, f"The parse crashed: {_SIGNAL_NAMES.get(int(killed), killed)}."
    return Kind.EXIT, f"The file ended its process with exit code {ended.get('code')}, as os._exit does."


def _timed(fault: Fault, limits: Limits) -> Fault:
    # Airflow's own timeout, which is set to the same time, says more than a person wants to read.
    return fault._replace(message=_too_long(limits)) if fault.kind is Kind.TIMEOUT else fault


def _too_long(limits: Limits) -> str:
    return f"The parse did not end within {limits.seconds:g} s (--timeout)."


def _texts(result: Mapping[str, Any], name: str, scratch: str = "") -> list[str]:
    """Return the texts of a list, each with what UTF-8 has no bytes for replaced."""
    value = result.get(name)
    texts = [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
    return [without_scratch(text.encode(errors="replace").decode(), scratch) for text in texts]


def _read_answer(line: bytes) -> dict[str, Any] | None:
    """Return an answer of the engine, or ``None`` if it has not the form of one."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    ended = said.get("ended")
    return None if isinstance(ended, dict) and not _is_whole(ended) else said


def _is_whole(ended: Mapping[str, Any]) -> bool:
    """Return whether what the engine says of a child has the form that it must have."""
    return all(
        name in ended and type(ended[name]) in kinds and (kinds is not _NUMBER or 0 <= ended[name] < _MAX_NUMBER)
        for name, kinds in _ENDED.items()
    )


__all__ = ["Engine", "Settings", "Unwanted", "Versions", "outcome_of"]
