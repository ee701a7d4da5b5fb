"""Run the commands of the page about the ``astro`` CLI with the real one, and write what they print into the page.

The CLI is not part of this project: the variable ``ASTRO_CLI`` names it. It runs unmodified, against a server with
tokens that the page itself starts. What is run is the part between two markers, as ``transcript`` runs whole pages.

    ASTRO_CLI=/path/to/astro python scripts/astro_transcript.py
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from transcript import DOCS, any_port, run_page

PAGE = DOCS / "how-to" / "astro-cli.md"
VARIABLE = "ASTRO_CLI"
START, END = "<!-- transcript -->\n", "<!-- end -->\n"
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_PADDING = re.compile(r"[ \t]+$", re.MULTILINE)


def parts(page: str) -> tuple[str, str, str]:
    """Return what is before the transcript, the transcript, and what is after it; ``ValueError`` without markers."""
    before, start, rest = page.partition(START)
    transcript, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"The page needs {START.strip()} and, after it, {END.strip()}.")
    return before + start, transcript, end + after


def plain(printed: str) -> str:
    """Return what the CLI prints without colors and without the blanks that end its lines."""
    return _PADDING.sub("", _COLOR.sub("", printed))


def written(page: str, program: Path, free_port: Callable[[], int]) -> str:
    """Return ``page`` with what its commands print when ``program`` is ``astro``; ``PageFailed`` as ``run_page``."""
    before, transcript, after = parts(page)
    with tempfile.TemporaryDirectory(prefix="dagferry-astro-") as folder:
        Path(folder, "astro").symlink_to(program.resolve())
        return before + run_page(transcript, free_port, clean=plain, programs=folder) + after


def main() -> int:
    """Write the page."""
    program = os.environ.get(VARIABLE)
    if not program:
        sys.stderr.write(f"Set {VARIABLE} to the path of the astro CLI: see {PAGE.relative_to(DOCS.parent)}.\n")
        return 2
    PAGE.write_text(written(PAGE.read_text(), Path(program), any_port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
