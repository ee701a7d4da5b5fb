"""Every relative link and anchor in a Markdown file exists, the ADRs have no gaps, and the index lists every page."""

import re
import urllib.parse
from pathlib import Path

import pytest

from pages import DOCS, HOME, PAGES, anchors, links


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    missing = []
    for link in links(page.read_text()):
        path, _, anchor = urllib.parse.unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            missing.append(link)
    return missing


def test_links_and_anchors_are_found(tmp_path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "# One `two`: three\n# Again\n# Again\n[a](a.md#one-two-three) [b](#again-1) [c](https://x.org/y)\n"
        "[d](b.md) ![e](e.svg)\n[f](#again-2)\n`[g](g.md)`\n```\n[h](h.md)\n# h\n```\n[i](#h)"
    )
    assert broken(page) == ["b.md", "e.svg", "#again-2", "#h"]


def test_there_are_pages() -> None:
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md"} <= {page.name for page in PAGES}
    assert len(PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_the_index_lists_every_page() -> None:
    index = {(DOCS / link).resolve() for link in links((DOCS / "README.md").read_text())}
    pages = {page.resolve() for page in DOCS.rglob("*.md") if page.parent.name != "adr"} - {DOCS / "README.md"}
    assert pages <= index


def test_the_decisions_are_numbered_without_gaps_and_listed() -> None:
    decisions = sorted(page.name for page in (DOCS / "adr").glob("[0-9]*.md"))
    assert [int(name[:4]) for name in decisions] == list(range(1, len(decisions) + 1))
    listed = [link for link in links((DOCS / "adr" / "README.md").read_text()) if re.match(r"[0-9]", link)]
    assert listed == decisions
