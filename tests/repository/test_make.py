"""``make`` alone lists the targets, and all of them."""

import re
import subprocess

from deployfiles import HOME


def test_make_alone_lists_every_target_with_what_it_does() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=HOME, capture_output=True, text=True, check=True
    ).stdout
    lines = dict(re.findall(r"^  make (\S+) +(\S.*)$", listed, re.MULTILINE))
    [phony] = re.findall(r"^\.PHONY: (.*)$", (HOME / "Makefile").read_text(), re.MULTILINE)
    assert sorted(lines) == sorted(phony.split())
