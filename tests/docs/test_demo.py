"""``make run``: on a terminal it stays and its commands work; without one it ends; a second run continues the first."""

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import HOME

TIMEOUT_SECONDS = 120
ENVIRONMENT = os.environ | {"NO_PROXY": "*"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the demonstration needs of a clone."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(HOME / "scripts" / "demo.py", tmp_path / "scripts")
    shutil.copytree(HOME / "examples", tmp_path / "examples")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def without_terminal(clone: Path) -> tuple[int, str]:
    """Run the demonstration with no terminal: its exit code and what it prints."""
    command = [sys.executable, clone / "scripts" / "demo.py"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT,
        timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


def typed(clone: Path, *commands: str) -> str:
    """What commands print that are typed in a second terminal, in the folder of the clone."""
    return subprocess.run(
        "\n".join(commands), shell=True, cwd=clone, env=ENVIRONMENT, check=True, capture_output=True, text=True
    ).stdout


class Terminal:
    """The demonstration on a terminal of its own."""

    def __init__(self, clone: Path) -> None:
        self.printed = ""
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.process = subprocess.Popen(
            [sys.executable, clone / "scripts" / "demo.py"], stdin=theirs, stdout=theirs, stderr=theirs,
            env=ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def read_until(self, wanted: str) -> str:
        """Read until ``wanted`` was printed; return all of it."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while wanted not in self.printed:
            assert time.monotonic() < deadline, self.printed
            self.read()
            time.sleep(0.02)
        return self.printed

    def read(self) -> None:
        with contextlib.suppress(OSError):  # nothing there now, or the other end is closed
            self.printed += os.read(self._ours, 65536).decode().replace("\r\n", "\n")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(TIMEOUT_SECONDS)
        os.close(self._ours)


@pytest.fixture
def terminal(clone: Path) -> Iterator[Terminal]:
    opened = Terminal(clone)
    yield opened
    opened.close()


def versions(printed: str) -> list[int]:
    """The sequences that were deployed."""
    return [int(number) for number in re.findall(r"stored as version \w+-(\d+)", printed)]


@pytest.mark.slow
def test_without_a_terminal_it_ends_and_a_second_run_continues(clone: Path) -> None:
    code, printed = without_terminal(clone)
    assert (code, versions(printed)) == (0, [1, 2]), printed
    assert re.search("    prod: (HEALTHY|DEPLOYING) ", printed), printed
    assert "has ended, because this is not a terminal" in printed
    (clone / ".run" / "dags" / "mine.py").write_text("mine = 1\n")
    code, printed = without_terminal(clone)
    assert (code, versions(printed)) == (0, [3, 4]), printed
    assert "continues" in printed
    assert (clone / ".run" / "worker" / "dags" / "current" / "mine.py").is_file()


@pytest.mark.slow
def test_on_a_terminal_it_stays_and_what_it_says_to_type_deploys_a_change(clone: Path, terminal: Terminal) -> None:
    printed = terminal.read_until('the next "make run" continues with it.')
    shown = re.findall(r"^(?:  |See .*?: +)((?:echo|curl|tail|tar|\.venv/bin/dagferry) .*)$", printed, re.MULTILINE)
    dagferry = ".venv/bin/dagferry"
    assert [command.split()[0] for command in shown] == [
        "echo", dagferry, "tail", dagferry, dagferry, "tail", "tar", "curl",
    ]  # fmt: skip
    assert typed(clone, *shown[:2]).strip().endswith("-000003")
    current = clone / ".run" / "worker" / "dags" / "current"
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not os.readlink(current).endswith("-000003"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "# my change" in typed(clone, shown[2])
    for command in shown[3:6]:
        assert typed(clone, command)
    # curl deploys the same content: nothing new.
    assert '"unchanged":true' in typed(clone, *shown[6:]).replace(" ", "")

    code, second = without_terminal(clone)
    assert code == 1
    assert re.search(r"running already, with its server on http://127.0.0.1:\d+\.", second)
    assert current.is_dir()

    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("have stopped.")
    assert terminal.process.wait(TIMEOUT_SECONDS) == 0
    assert versions(without_terminal(clone)[1]) == [4]


def test_the_readme_shows_the_commands_that_it_prints(clone: Path) -> None:
    text = (HOME / "README.md").read_text().partition("## Quick start")[2].partition("\n## ")[0]
    first, second = (block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    assert first[-1] == "make run"
    assert len(first) + len(second) == 5
    printed = (clone / "scripts" / "demo.py").read_text()
    for line in second:
        shown = line.replace("http://127.0.0.1:8000", "{url}").replace("--deployment prod", "--deployment {deployment}")
        assert shown in printed
