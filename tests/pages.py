"""The project's Markdown pages: which there are, where they link to, and which anchors they have."""

import re
import subprocess
from pathlib import Path

HOME = Path(__file__).parents[1]
DOCS = HOME / "docs"
TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=HOME,
    check=True,
    capture_output=True,
    text=True,
).stdout.split()
PAGES = sorted(HOME / name for name in TRACKED if (HOME / name).exists())
CODE = re.compile(r"^( *)```.*?^\1```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of all links and pictures in a page, without those that leave the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", text)) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: set[str] = set()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 1
        while name in found:
            name = f"{re.sub(r'-[0-9]+$', '', name) if number > 1 else name}-{number}"
            number += 1
        found.add(name)
    return found
