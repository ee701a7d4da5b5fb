"""The pages use standard terms and plain sentences: an earlier version had words of its own, and they stay away."""

import re
from pathlib import Path

import pytest

from pages import DOCS, HOME

PAGES = [HOME / "README.md", HOME / "deploy" / "README.md", *sorted(DOCS.rglob("*.md"))]
PAGES = [page for page in PAGES if page.parent.name != "adr"]
GENERATED = re.compile(r"<!-- reference: .*?<!-- end -->", re.DOTALL)
AVOIDED = (
    r"whoever",
    r"(?:is|are|was|there) none\b",
    r"\btorn\b",
    r"\bodd\b",
    r"\btold\b",
    r"\b(?:cannot|to) be had\b",
    r"is no (?:damage|version|failure|hole)\b",
    r"says? nothing of",
    r"stands? in",
    r"\bstrangers?\b",
    r"gave? it up",
    r"cannot mend",
    r"left[_ ]out",
    r"broken_off",
    r"credential_faults",
    r"goodbye",
    r"\b(?:all|other|this|which|endpoint) calls?\b",
    r"for ever\b",
    r"the (?:one|version|deploy) before\b",
    r"with a hand|by a hand",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_a_page_uses_standard_terms(page: Path) -> None:
    prose = GENERATED.sub("", page.read_text())
    prose = re.sub(r"`tests/[^`]*`", "", prose)
    found = [match[0] for pattern in AVOIDED for match in re.finditer(pattern, prose, re.IGNORECASE)]
    assert found == []


def test_the_patterns_find_what_is_avoided() -> None:
    text = (
        "Whoever was told that there is none says nothing of it: it stands in the log, and a stranger reads all calls."
    )
    assert sum(bool(re.search(pattern, text, re.IGNORECASE)) for pattern in AVOIDED) >= 7
