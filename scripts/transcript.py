"""Run the pages that show commands with their output, and write what they printed into them; draw the README's picture.

In such a page every ``sh`` block is run, in the order of the page and in one shell; a ``text`` block right after it is
what it printed. ``<!-- run`` … ``-->`` is run too, and not shown: what the reader of a how-to guide has already. A
block may fail only where its output shows an error.

Times, versions and ports are others in every run, so the pages have fixed ones (``Normalizer``). The picture shows some
commands of the tutorial, with the colors that ``dagferry`` has on a terminal; it has the sha256 of what it shows, so
that a test can check it without drawing.

    python scripts/transcript.py
"""

import contextlib
import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from dagferry_client.describe import STYLES
from dagferry_client.output import ago
from dagferry_client.states import styled

DOCS = Path(__file__).resolve().parent.parent / "docs"
TUTORIAL = DOCS / "tutorial" / "see-and-undo-deploys.md"
PAGES = (
    TUTORIAL,
    DOCS / "how-to" / "answer-questions-about-a-deploy.md",
    DOCS / "how-to" / "roll-back.md",
)
PICTURE = DOCS / "images" / "transcript.svg"
PICTURED = (
    "dagferry deploy -m 'Every ten minutes' --wait",
    "dagferry deploy -m 'Greet everybody'",
    "dagferry deploy --skip-gate --wait=10s",
    "dagferry status",
    "dagferry rollback --previous --wait",
)
"""The commands of the tutorial that the picture shows, each the last one of a block with an output."""
COLUMNS = 100
TIMEOUT_SECONDS = 300

_BLOCK = re.compile(
    r"^<!-- run\n(?P<hidden>.*?)^-->\n|^```sh\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
_INSTALLATION = re.compile(r"^(?:python3 -m venv|\. venv/|pip install) ?.*\n", re.MULTILINE)
"""What the page installs is there."""
_ERROR = re.compile(r"^Error: ", re.MULTILINE)
_PORT = re.compile(r"127\.0\.0\.1:(8\d{3})\b")
_VERSION = re.compile(r"\b\d{8}T\d{6}Z-(\d{6})\b")
_UTC = re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
_AGO = re.compile(r"\b\d+ (?:s|min|h|days) ago|\bjust now")
_PROGRESS = re.compile(
    r"^(?:EMPTY|UNKNOWN|DEPLOYING|DEGRADED): .*|^No pod is known yet\.$|^The server does not show .*"
)
"""What a terminal shows only while a command waits: how often it is said depends on the machine."""
_HEAD = re.compile(r"[A-Z]+(?: [A-Z]+)*(?: {2,}[A-Z]+(?: [A-Z]+)*)+")
_STATE = re.compile(r"(?:^\w+: |  )(EMPTY|UNKNOWN|DEPLOYING|HEALTHY|DEGRADED|live|behind|failing|lost)(?= )")
_CELL = "\x1f"
"""Separates the cells of a row while they are replaced."""
_LAG = re.compile(f"(?<={_CELL})\\d+ s(?={_CELL})")
_POD = re.compile(f"{_CELL}(live|behind|failing|lost){_CELL}")
_SERVER_PORT = "8000"
_SERVER = f"127.0.0.1:{_SERVER_PORT}"
_PUBLIC = "https://dags.example.com"
"""The server of how-to guides."""
_FIRST = 1_796_108_400  # 2026-12-01 07:00:00 UTC, when the first deploy of a page is shown to be made
_EACH = 60
"""How many seconds later the next one is shown."""
_LATE = "12 s"
"""For how long a pod is shown to be behind."""
_MARK = "\x1e"
_END_ALL = "trap 'kill -KILL $(jobs -p) 2>/dev/null' EXIT\n"
"""Ends what a page started, also what it stopped with a signal."""


class PageFailed(Exception):
    """A page shows something else than what happens."""


class Block(NamedTuple):
    """A part of a page that is run: its commands, what it printed, and where that is in the page.

    ``output`` is ``None`` if the page does not show it.
    """

    code: str
    output: str | None
    start: int
    end: int


def blocks_of(page: str) -> list[Block]:
    """Return what is run of a page."""
    found = []
    for match in _BLOCK.finditer(page):
        start, end = match.span("output")
        found.append(Block(match["hidden"] or match["code"], match["output"], start, end))
    return found


class Normalizer:
    """Replaces what differs from run to run: versions, moments, ages, lags, and with them the widths of columns.

    A deploy is shown to be made ``_EACH`` seconds after the previous one, and looked at a moment after the newest one.
    """

    def __init__(self) -> None:
        self._newest = self._named = 1  # sequences; a moment is that of the deploy that was named last

    def __call__(self, printed: str) -> str:
        """Return what is shown of ``printed``."""
        self._newest = max([self._newest, *(int(found[1]) for found in _VERSION.finditer(printed))])
        made: list[str] = []
        rows: list[list[str]] = []
        starts: list[int] = []
        for line in printed.splitlines():
            if _PROGRESS.fullmatch(line):
                continue
            if _HEAD.fullmatch(line):
                made += _aligned(rows)
                rows = []
                starts = [0, *(found.end() for found in re.finditer(" {2,}", line))]
            elif not all(line[start - 2 : start].isspace() for start in starts[1:] if start - 2 < len(line)):
                starts = []
            if starts:
                ends = [*starts[1:], None]
                cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
                rows.append(self._line(_CELL.join(cells)).split(_CELL))
            else:
                made += [*_aligned(rows), self._line(line)]
                rows = []
        return "".join(f"{line}\n" for line in [*made, *_aligned(rows)])

    def _line(self, line: str) -> str:
        if found := _VERSION.search(line):
            self._named = int(found[1])
        line = _VERSION.sub(lambda found: f"{_stamp('%Y%m%dT%H%M%SZ', int(found[1]))}-{found[1]}", line)
        line = _UTC.sub(_stamp("%Y-%m-%d %H:%M:%S UTC", self._named), line)
        if pod := _POD.search(line):
            return _LAG.sub(_LATE, _AGO.sub(f"{'0 s' if pod[1] == 'live' else _LATE} ago", line))
        return _AGO.sub(ago(_moment(self._named), _moment(self._newest) + 5), line)


def _moment(sequence: int) -> int:
    return _FIRST + _EACH * (sequence - 1)


def _stamp(form: str, sequence: int) -> str:
    return time.strftime(form, time.gmtime(_moment(sequence)))


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def run_page(page: str, free_port: Callable[[], int], *, clean: Callable[[str], str] = str, programs: str = "") -> str:
    """Run what ``page`` shows in a new folder; return the page with what was printed.

    ``clean`` prepares an output before it is normalized; ``programs`` is a folder with more commands. Raises
    ``PageFailed`` if something failed whose output shows no error, or the other way round.
    """
    blocks = blocks_of(page)
    ports = {shown: str(free_port()) for shown in sorted({_SERVER_PORT, *_PORT.findall(page)})}
    server = f"127.0.0.1:{ports[_SERVER_PORT]}"
    script = "exec 2>&1\n" + "".join(f"{block.code}printf '{_MARK}%s{_MARK}' $?\n" for block in blocks)
    script = _INSTALLATION.sub("", script).replace(_PUBLIC, f"http://{server}")
    script = _PORT.sub(lambda found: f"127.0.0.1:{ports[found[1]]}", script)
    printed = _run(script, server, programs).replace(
        f"http://{server}", _PUBLIC if _PUBLIC in page else f"http://{_SERVER}"
    )
    for shown, used in ports.items():
        printed = printed.replace(f"127.0.0.1:{used}", f"127.0.0.1:{shown}")
    ran = printed.split(_MARK)[:-1]
    if len(ran) != 2 * len(blocks):
        raise PageFailed(f"Only {len(ran) // 2} of {len(blocks)} blocks were run:\n{printed}")
    normalize = Normalizer()
    made, done = "", 0
    for block, output, code in zip(blocks, ran[::2], ran[1::2], strict=True):
        if (code != "0") != bool(_ERROR.search(output)):
            raise PageFailed(f"Exit code {code}:\n{block.code}\n{output}")
        shown = normalize(clean(output))
        if block.output is not None:
            made, done = made + page[done : block.start] + shown, block.end
    return made + page[done:]


def _run(script: str, server: str, programs: str = "") -> str:
    """Return what a shell prints that runs ``script`` in a new folder, with nothing of this machine's settings."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    with tempfile.TemporaryDirectory(prefix="dagferry-page-") as folder:
        environment = {
            "PATH": ":".join([programs, *folders] if programs else folders),
            "HOME": folder,
            "LANG": "C.UTF-8",
            "NO_PROXY": "*",
            "DAGFERRY_LISTEN": server,  # the server's; every sidecar of a page has its own --listen
        }
        shell = subprocess.Popen(  # noqa: S603 - our own pages
            ["bash", "-uo", "pipefail", "-c", _END_ALL + script],  # noqa: S607
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with shell:
            try:
                return shell.communicate(timeout=TIMEOUT_SECONDS)[0]
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)


def pictured(page: str) -> str:
    """Return the text of the picture: commands of ``page``, with their output."""
    outputs = {block.code.splitlines()[-1]: block.output for block in blocks_of(page) if block.output is not None}
    return "\n".join(f"$ {command}\n{outputs[command]}" for command in PICTURED)


def mark(text: str) -> str:
    """Return the comment that an up-to-date picture of ``text`` has."""
    return f"<!-- {TUTORIAL.name} sha256:{hashlib.sha256(text.encode()).hexdigest()} -->"


def draw(text: str) -> str:
    """Return ``text`` as an SVG of a terminal, which asks for no font and nothing else of the network."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in text.splitlines():
        console.print(_colored(line), soft_wrap=False)
    svg = console.export_svg(title="dagferry", unique_id="transcript")
    svg = re.sub(r"<!-- Generated .*?-->\s*|@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    # Some programs drop the blanks with which a text starts, unless they must not.
    return svg.replace("<svg", f'{mark(text)}\n<svg xml:space="preserve"', 1) + "\n"


def _colored(line: str) -> Text:
    """Return a line as the command colors it on a terminal."""
    text = Text(line, "bold" if line.startswith("$ ") else "")
    text.highlight_regex(r"^Error:", "bold red")
    text.highlight_regex(r"^Warning:", "bold yellow")
    if re.match(r"[A-Z] {2}\S", line):
        text.stylize(STYLES.get(line[0], ""), 0, 1)
    if _HEAD.fullmatch(line):
        text.stylize("bold")
    if found := _STATE.search(line):
        text.stylize(styled(found[1]).style, *found.span(1))
    return text


def any_port() -> int:
    """Return a port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Write every page that is out of date, and the picture."""
    for path in PAGES:
        path.write_text(run_page(path.read_text(), any_port))
    PICTURE.write_text(draw(pictured(TUTORIAL.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
