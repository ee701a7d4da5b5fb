"""The project's Markdown pages: which there are, where they link to, and which anchors they have."""

import re
import subprocess
from pathlib import Path

HOME = Path(__file__).parents[1]
DOCS = HOME / "docs"


def files_of(where: str) -> list[Path]:
    """The files below a folder, or with a pattern, but those that Git ignores: secrets, what Python caches."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", where]
    names = subprocess.run(command, cwd=HOME, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(HOME / name for name in set(names) if (HOME / name).is_file())


PAGES = files_of("*.md")
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
