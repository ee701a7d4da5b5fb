"""Pages, code and configuration use standard terms and plain sentences.

An earlier version had words of its own, which nobody could search for. They stay away: from the pages, from docstrings
and comments, and from every text that a user meets (errors, hints, help, log messages).
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import DOCS, HOME, files_of

PACKAGES = (
    "core",
    "follow",
    "runtime",
    "gate",
    "server",
    "sidecar",
    "client",
    "airflow_plugin",
    "checker",
    "scripts",
    "examples",
    "benchmarks",
)
SOURCES = sorted(path for package in PACKAGES for path in (HOME / package).rglob("*.py"))
PAGES = [
    *(HOME / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((HOME / "changes").glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
]
CONFIGURATION = [
    HOME / "Makefile",
    *sorted(HOME.glob("Dockerfile*")),
    *(path for folder in ("deploy", ".github", ".ci") for path in files_of(folder)),
]
CHANGELOG = HOME / "CHANGELOG.md"
UNRELEASED = re.compile(r"^## Unreleased\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)

AVOIDED = (
    r"whoever",
    r"(?<!there )\b(?:is|are|was|were) (?-i:none)\b",
    r"\btorn\b",
    r"\bodd\b",
    r"\btold\b",
    r"\bsound\b",
    r"\bdear\b",
    r"\btwins?\b",
    r"\b(?:cannot|to) be (?:had|told)\b",
    r"(?<!there )\b(?:is|are|was|were) no (?!longer|more\b|later\b)\w+",
    r"says? nothing of",
    r"\b(?:stands?|stood) (?:in|beside|from|there|here|once|between)\b",
    r"\bstrangers?\b",
    r"(?:gave|gives?|giving) it up",
    r"cannot mend",
    r"\bleft[_ ](?:out|unsaid|alone)\b",
    r"broken[_ ]off",
    r"credential_faults",
    r"goodbye",
    r"\b(?:all|other|this|which|endpoint) calls?\b(?! (?:by|to) )",
    r"for ever\b",
    r"the (?:one|version|deploy) before\b",
    r"(?:with|by) a hand|a hand (?:removed|wrote|changed)",
    r"\btells? (?:apart|whether|its|which)\b",
    r"\bdefects?\b",
    r"nobody stands",
    r"\bweighs?\b",
    r"\bbuys\b",
    r"\bat the most\b",
    r"\bled to\b",
    r"\bput right\b",
    r"\bin force\b",
    r"\bmeddl",
    r"\bheld against\b",
    r"\ba trip to\b",
    r"\bcame of\b|\bcomes of\b|\bbecame of\b",
    r"\bgood for\b",
    r"\bfrom elsewhere\b",
    r"\bspeaks?\b",
    r"\bhas over\b",
)
"""Patterns of words and phrases that have a standard one in their place."""
OPENINGS = re.compile(r"(?:Tell|Says?) (?:whether|if)\b|Have (?:the|a|exactly)\b")
"""How no docstring starts: it says what a function returns or does, such as "Return whether …"."""
ALLOWED = {
    # the old names, for those who search for them
    "CHANGELOG.md": {"credential_faults", "left_unsaid"},
    "changes/+server-words.changed.md": {"left_unsaid"},
}
"""Where one of these is right in its place, by file."""


def texts_of(path: Path) -> Iterator[str]:
    """Yield the docstrings, the comments, and the strings with blanks in a Python source."""
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.removeprefix("# ")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.value


def prose_of(path: Path) -> str:
    """Return all that a person reads in a file, on one line."""
    text = "\n".join(texts_of(path)) if path.suffix == ".py" else path.read_text(errors="replace")
    if path == CHANGELOG:
        text = "".join(UNRELEASED.findall(text))
    text = re.sub(r"`tests/[^`]*`", "", text)
    return re.sub(r"\s+(?:# )?", " ", text)


def found_in(prose: str) -> list[str]:
    """Return what is to be avoided in some prose."""
    return [match[0] for pattern in AVOIDED for match in re.finditer(pattern, prose, re.IGNORECASE)]


FILES = [*PAGES, CHANGELOG, *CONFIGURATION, *SOURCES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_a_file_uses_standard_terms(path: Path) -> None:
    allowed = ALLOWED.get(str(path.relative_to(HOME)), set())
    assert set(found_in(prose_of(path))) == allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOME)))
def test_a_docstring_says_what_is_returned(path: Path) -> None:
    assert [text for text in texts_of(path) if OPENINGS.match(text)] == []


def test_the_patterns_find_what_is_avoided() -> None:
    text = (
        "Whoever was told that there is one, or that it is none, says nothing of it: it stands in the log, and a "
        "stranger reads all calls."
    )
    assert len(found_in(text)) >= 6
    assert OPENINGS.match("Tell whether it is there.")


def test_the_whole_text_of_a_source_is_read() -> None:
    """Docstrings, comments and strings, here of this very file; code is not prose."""
    prose = prose_of(Path(__file__))
    assert "Pages, code and configuration use standard terms" in prose
    assert "the old names, for those who search for them" in prose
    assert "parametrize" not in prose.replace("test_words", "")


def test_of_the_changelog_only_what_is_new_is_read() -> None:
    """What was released is history and stays as it was written."""
    assert UNRELEASED.findall("# Changelog\n\n## Unreleased\n\nnew\n\n## 1.0.0\n\ntold\n") == [
        "## Unreleased\n\nnew\n\n"
    ]
