"""Runs ruff on Python sources: what does not parse, and what Airflow 3 removed.

ruff sees nothing of an upload but the text of its sources: they are in a new folder, under names of ours, its settings
are all on its command line, and its environment is empty. Comments that silence ruff do not count, because they do not
silence Python. It is a process of its own, in a group of its own, whose time, memory and output are limited.

ruff crashes when a source is nested too deeply, and needs much memory or time for some. To find out which of many it
was, the halves are checked, and so on; a source that it cannot check even alone has that as its error. Its time is
counted in seconds of a processor: how busy the machine is must not decide what is wrong with a source.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from itertools import accumulate, chain
from pathlib import Path
from typing import NamedTuple

from dagferry_gate.errors import CheckFailed, RuffMissing
from dagferry_gate.findings import printable

OLDEST = (0, 14)
"""The oldest ruff that knows every Python in ``rules.PYTHONS``, and the errors that depend on it."""
MAX_CHECK_SECONDS = 30.0
"""How long ruff may take for all the sources of one check. What was found until then is not lost."""
MAX_SOURCE_SECONDS = 5
MAX_BATCH_SECONDS = 2
"""Processor time (Linux) for one source alone, and for several before their halves are checked: ruff needs 0.15 s for
1 MB of usual Python, and 1.4 s for 10 MB."""
MAX_START_SECONDS = 30.0
"""How long ruff may take to print its version: it may have to be read from a slow disk."""
MAX_MEMORY_BYTES = 768 * 1024 * 1024
"""Address space of the process: half of the memory of a tier. It needs 20 MB for 2,000 usual sources."""
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
MAX_STDERR_BYTES = 4096
MAX_BATCH_FILES = 4000
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""How much ruff may print in one run, and how many sources are checked in one: it ends at the one that exceeds it."""
MAX_KEPT = 5
"""How many errors, and warnings, of one source are kept; the others are counted."""
THREADS = 2
STACK_BYTES = 16 * 1024 * 1024
"""How many sources are checked at the same time, and how deep one may be nested: far deeper than Python allows."""

ERRORS = (
    "F404,F406,F407,F621,F622,F701,F702,F704,F706,F707,"  # a late __future__, a break outside a loop, …
    "PLE0117,PLE0118,PLE1142,PLE1700"  # a nonlocal without a binding, an await outside a function, …
)
"""What Python refuses to compile, but ruff does not count as syntax."""
REMOVALS = "AIR30"
"""What Airflow 3 removed or moved away."""
UNCHECKED = "cannot be checked: it is nested too deeply, or too large"
TOO_SLOW = f"cannot be checked: it takes more than {MAX_SOURCE_SECONDS} s"

EMPTY = "empty.py"
FOLDER_PREFIX = ".check-"
"""How the folders that sources are written to begin; a process that is killed may leave one."""
_PIECE_BYTES = 256 * 1024
_PANIC = "panic"
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL}


class Finding(NamedTuple):
    """What ruff says, and where; both count from 1, columns count characters."""

    line: int
    column: int
    message: str


class Report(NamedTuple):
    """The findings in one source: the first of them, and how many there are."""

    errors: tuple[Finding, ...] = ()
    error_count: int = 0
    warnings: tuple[Finding, ...] = ()
    warning_count: int = 0


def error_report(line: int, column: int, message: str) -> Report:
    """Return the report of a source with one error."""
    return Report((Finding(line, column, message),), 1)


CLEAN = Report()


class Ruff:
    """ruff at ``path``. One process runs at a time, whichever threads call; they take turns."""

    def __init__(self, path: str, *, max_seconds: float = MAX_CHECK_SECONDS) -> None:
        self.path = path
        self._max_seconds = max_seconds
        self._turns = _Turns()

    def check(
        self, sources: Iterable[bytes], python: str, *, removals: bool, scratch: str | None = None
    ) -> Iterator[Report]:
        """Yield the report of each source, which is UTF-8, for a version of Python such as ``3.11``, once it is known.

        ``removals``: also warn of what Airflow 3 removed. The sources are written to a folder in ``scratch``, by
        default where temporary files go. Raises ``CheckFailed``, and ``OSError`` if they cannot be written.
        """
        settings = ["--target-version", "py" + python.replace(".", ""), "--select"]
        settings.append(f"{ERRORS},{REMOVALS}" if removals else ERRORS)
        seconds = self._max_seconds
        sources = iter(sources)
        while (first := next(sources, None)) is not None:
            with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, dir=scratch) as folder:
                sizes = _write_batch(chain((first,), sources), folder)
                batch = _Batch(self.path, settings, folder, self._turns, seconds)
                yield from batch.check(sizes)
                seconds = batch.seconds


def find_ruff() -> Ruff:
    """Return the ruff of this Python's environment, or the one in ``PATH``; raise ``RuffMissing``."""
    if sys.platform == "win32":
        raise RuffMissing(
            "The check of Python files does not run on Windows: its limits of time and memory do not work there.",
            "Check on Linux or macOS, or leave it to the server, which checks what it receives.",
        )
    path = _path()
    try:
        ran = subprocess.run(  # noqa: S603 - the path is not from an upload
            [path, "--version"], capture_output=True, text=True, check=True, env={}, timeout=MAX_START_SECONDS
        )
        version = tuple(int(number) for number in ran.stdout.split()[1].split(".")[:2])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise RuffMissing(f"ruff at {path} does not start: {error}.") from error
    if version < OLDEST:
        raise RuffMissing(f"ruff at {path} is too old: {ran.stdout.strip()}.")
    return Ruff(path)


def _path() -> str:
    try:
        from ruff import find_ruff_bin  # noqa: PLC0415 - whether it is there is the question

        return str(find_ruff_bin())
    except (ImportError, FileNotFoundError):
        if found := shutil.which("ruff"):
            return found
    raise RuffMissing("The gate needs ruff, which is not installed.")


def _write_batch(sources: Iterator[bytes], folder: str) -> list[int]:
    """Write the next sources to ``0.py``, ``1.py``, …; return their sizes. Only one of them is in memory at a time."""
    Path(folder, EMPTY).touch()
    sizes: list[int] = []
    total = 0
    while len(sizes) < MAX_BATCH_FILES and total < MAX_BATCH_BYTES and (source := next(sources, None)) is not None:
        Path(folder, f"{len(sizes)}.py").write_bytes(source)
        sizes.append(len(source))
        total += len(source)
    return sizes


def _half(numbers: Sequence[int], sizes: Sequence[int]) -> int:
    """Return how many of ``numbers``, two or more, are half of their bytes: slow sources are large, and soon alone."""
    ends = list(accumulate(sizes[number] + 1 for number in numbers))
    return min(max(bisect(ends, ends[-1] // 2), 1), len(numbers) - 1)


class _Turns:
    """A lock that goes to who waited longest: a check of many sources leaves room for others between its processes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def __enter__(self) -> None:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            self._changed.wait_for(lambda: self._waiting[0] is turn)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._waiting.popleft()
            self._changed.notify_all()


class _Outcome(Enum):
    DONE = 1
    CRASHED = 2
    TOO_MUCH = 3
    TOO_SLOW = 4


class _Batch:
    """The sources in a folder. ``seconds`` is how long ruff may still run for them."""

    def __init__(self, ruff: str, settings: list[str], folder: str, turns: _Turns, seconds: float) -> None:
        self._command = [ruff, "check", "--isolated", "--no-cache", "--ignore-noqa", "--unfixable", "ALL", "--quiet"]
        self._command += ["--output-format", "json-lines", *settings]
        self._folder = folder
        self._turns = turns
        self.seconds = seconds
        self._ends = 0.0

    def check(self, sizes: Sequence[int]) -> Iterator[Report]:
        """Yield a report for each of the sources ``0.py``, ``1.py``, …, which have these ``sizes``."""
        pending: list[Sequence[int]] = [range(len(sizes))]
        while pending:
            numbers = pending.pop()
            with self._turns:
                started = time.monotonic()
                self._ends = started + self.seconds
                parser, outcome = self._run(numbers)
                self.seconds -= time.monotonic() - started
            if len(numbers) > 1 and (outcome is not _Outcome.DONE or parser.failed):
                half = _half(numbers, sizes)
                pending += [numbers[half:], numbers[:half]]
            elif outcome is _Outcome.TOO_SLOW:
                yield error_report(1, 1, TOO_SLOW)
            elif outcome is _Outcome.CRASHED or parser.failed:
                yield error_report(1, 1, UNCHECKED)
            else:
                for number in numbers:
                    yield parser.reports.get(number, CLEAN)

    def _run(self, numbers: Sequence[int]) -> tuple["_Parser", _Outcome]:
        """Check some of the sources; the parser has what was read of the output."""
        parser = _Parser()
        with subprocess.Popen(  # noqa: S603 - nothing of it is from an upload
            # A source alone would be checked in the main thread, whose stack is not ours to choose.
            [*self._command, EMPTY, *(f"{number}.py" for number in numbers)],
            cwd=self._folder,
            env={"RAYON_NUM_THREADS": str(THREADS), "RUST_MIN_STACK": str(STACK_BYTES)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                _limit(process.pid, MAX_BATCH_SECONDS if len(numbers) > 1 else MAX_SOURCE_SECONDS)
                errors = self._read(process, parser)
                code = process.wait(max(self._ends - time.monotonic(), 0.001))
            except BaseException as error:
                # Until it is waited for, its number cannot be that of another group.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise CheckFailed("Checking the Python files took too long.") from None
                if not isinstance(error, _TooMuch):
                    raise
                return parser, _Outcome.TOO_MUCH
        if -code == signal.SIGXCPU:
            return _Parser(), _Outcome.TOO_SLOW
        if -code in _CRASHES:
            return _Parser(), _Outcome.CRASHED
        if code not in (0, 1) and not parser.failed:
            how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
            raise CheckFailed(f"ruff, which checks the Python files, {how}. {printable(errors)}".rstrip())
        return parser, _Outcome.DONE

    def _read(self, process: "subprocess.Popen[bytes]", parser: "_Parser") -> str:
        """Pass what the process prints to ``parser``; return the start of what it says on its standard error."""
        said, printed = b"", 0
        with selectors.DefaultSelector() as selector:
            for stream in (process.stdout, process.stderr):
                if stream:
                    selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(self._ends - time.monotonic(), 0))
                if time.monotonic() >= self._ends:
                    raise subprocess.TimeoutExpired(process.args, self._ends)
                for key, _ in ready:
                    data = os.read(key.fd, _PIECE_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        said = (said + data)[:MAX_STDERR_BYTES]
                    else:
                        printed += len(data)
                        parser.feed(data)
                        if printed > MAX_OUTPUT_BYTES:
                            raise _TooMuch
        return said.decode(errors="replace")


class _TooMuch(Exception):
    """ruff printed more than ``MAX_OUTPUT_BYTES``."""


def _limit(pid: int, cpu: int) -> None:
    """Limit a process: Linux can do that from outside, other systems have ``MAX_CHECK_SECONDS`` only."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - there is none on Windows

        with suppress(ProcessLookupError):  # it has ended already
            resource.prlimit(pid, resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
            resource.prlimit(pid, resource.RLIMIT_CPU, (cpu, cpu + 1))  # SIGXCPU, then SIGKILL
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


class _Parser:
    """Reads ruff's output as it comes: one JSON object in each line. ``failed`` are the sources it gave up on."""

    def __init__(self) -> None:
        self.reports: dict[int, Report] = {}
        self.failed: set[int] = set()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            number = int(os.path.basename(found["filename"]).removesuffix(".py"))
            code = found["code"] or ""
            if code == _PANIC:
                self.failed.add(number)
                return
            row, column, message = found["location"]["row"], found["location"]["column"], found["message"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckFailed(f"ruff printed an unknown line: {printable(line.decode(errors='replace'))}") from error
        report = self.reports.get(number, CLEAN)
        if code.startswith(REMOVALS):
            warnings = report.warnings
            if len(warnings) < MAX_KEPT:
                warnings = (*warnings, Finding(row, column, printable(f"{code} {message}")))
            self.reports[number] = report._replace(warnings=warnings, warning_count=report.warning_count + 1)
        else:
            errors = report.errors
            if len(errors) < MAX_KEPT:
                errors = (*errors, Finding(row, column, printable(message)))
            self.reports[number] = report._replace(errors=errors, error_count=report.error_count + 1)
