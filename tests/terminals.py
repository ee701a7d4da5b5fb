"""Runs a command in a terminal, as a person does: reads its screen, types, and presses Ctrl-C."""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

PATIENCE_SECONDS = 60.0
PRESS_SECONDS = 2.0
COLUMNS = 200
_INTERRUPT = "\x03"

_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A process whose stdin and stderr are a terminal; so is its stdout, unless that goes to a file."""

    def __init__(self, *command: str, folder: Path, stdout: Path | None = None, rows: int = 50, **env: str) -> None:
        self.screen = ""
        """Everything that was printed, with the sequences that control the terminal."""
        self._main, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, COLUMNS, 0, 0))
        with contextlib.ExitStack() as files:
            files.callback(os.close, inner)
            self.process = subprocess.Popen(
                [sys.executable, "-c", _TAKE_TERMINAL, *command],
                stdin=inner,
                stderr=inner,
                stdout=files.enter_context(stdout.open("wb")) if stdout else inner,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "TERM": "xterm", **env},
                start_new_session=True,
            )

    def shows(self, text: str) -> "Terminal":
        """Wait until ``text`` was printed."""
        until = time.monotonic() + PATIENCE_SECONDS
        while text not in self.screen:
            assert time.monotonic() < until, f"{text!r} is not in {self.screen!r}"
            assert self._read(), f"it ended without {text!r}: {self.screen!r}"
        return self

    def type(self, text: str) -> None:
        """Type ``text``."""
        os.write(self._main, text.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C and wait for the end of the process; return its exit code.

        It is pressed again, as a person does, if nothing happens: Python misses a signal that comes right before it
        waits for a line.
        """
        return self.end(_INTERRUPT)

    def end(self, typed: str = "") -> int:
        """Wait for the end of the process; return its exit code. ``typed`` is typed until then."""
        until, press = time.monotonic() + PATIENCE_SECONDS, 0.0
        try:
            while True:
                if typed and time.monotonic() > press:
                    self.type(typed)
                    press = time.monotonic() + PRESS_SECONDS
                if not self._read():
                    break
                assert time.monotonic() < until, f"it goes on: {self.screen!r}"
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._main)

    def _read(self) -> bool:
        """Read what there is; return false after the end."""
        if not select.select([self._main], [], [], 1)[0]:
            return True
        try:
            piece = os.read(self._main, 1 << 16)
        except OSError:  # how Linux says that nobody has the terminal open any more
            return False
        self.screen += piece.decode(errors="replace")
        return bool(piece)
