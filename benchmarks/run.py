"""How fast and how small: every row of the benchmarks page, measured with real processes on one machine.

    make bench                             all rows, about an hour
    make bench ROWS="upload_time idle"     those whose name holds one of the words
    make bench ROWS=usual                  those on the tree of 300 files; ROWS=large: on that of 2,000

Ratios are taken side by side in one run, A B A B …, because machines are noisy. The working folder is on tmpfs.
"""

import os
import shutil
import socket
import sys

import checks  # noqa: F401 - each of these registers its rows
import command_line  # noqa: F401
import deploys  # noqa: F401
import fleet  # noqa: F401
import import_check  # noqa: F401
import on_a_bucket  # noqa: F401
import pushes  # noqa: F401
import starts  # noqa: F401
import task_pods  # noqa: F401
import uploads  # noqa: F401
import waiting  # noqa: F401
from measure import ROWS, WORK, machine

import pages  # noqa: F401


def main(words: list[str]) -> int:
    """Measure the rows whose name holds one of the words, and print them as a Markdown table."""
    socket.setdefaulttimeout(300)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in an image, modules are compiled before
    names = [name for name in ROWS if not words or any(word in name for word in words)]
    if not names:
        print(f"No row is named like that. They are: {', '.join(ROWS)}", file=sys.stderr)
        return 1
    try:
        print(f"{machine()}\n\n| what | goal | measured |\n|---|---|---|", flush=True)
        for name in names:
            for line in ROWS[name]():
                print("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |", flush=True)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
