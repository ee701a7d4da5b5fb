"""The changelog fragments are such that a release finds each of them and a reader understands it."""

import re
from pathlib import Path

import pytest

from deployfiles import HOME

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

FOLDER = HOME / "changes"
CONFIGURED = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["towncrier"]
KINDS = {kind["directory"] for kind in CONFIGURED["type"]}
FRAGMENTS = sorted(path for path in FOLDER.iterdir() if path.name != "README.md")
MAX_CHARACTERS = 600


def complaint(path: Path) -> str:
    """What is wrong with a fragment; nothing if it is as changes/README.md says."""
    found = re.fullmatch(r"(?:\d+|\+[a-z0-9-]+)\.([a-z]+)\.md", path.name)
    if not found:
        return f"{path.name}: the name is neither <issue>.<kind>.md nor +<words>.<kind>.md"
    if found[1] not in KINDS:
        return f"{path.name}: the kind is not one of {', '.join(sorted(KINDS))}"
    text = path.read_text()
    if not re.fullmatch(r"[^\s*#-][^\n]*(?:\n[^\n]+)*\n", text):
        return f"{path.name}: it is one paragraph, without a bullet or a heading, and ends with one line end"
    if len(text) > MAX_CHARACTERS or not text.rstrip().endswith("."):
        return f"{path.name}: it has one or two sentences, at most {MAX_CHARACTERS} characters"
    return ""


def test_the_fragments_have_names_kinds_and_sentences() -> None:
    assert [text for text in map(complaint, FRAGMENTS) if text] == []


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("12.fixed.md", "A sentence.\n", ""),
        ("+some-words.added.md", "Two. Sentences\nin two lines.\n", ""),
        ("some-words.added.md", "A sentence.\n", "the name"),
        ("12.fixed", "A sentence.\n", "the name"),
        ("12.mended.md", "A sentence.\n", "the kind"),
        ("12.fixed.md", "- A sentence.\n", "one paragraph"),
        ("12.fixed.md", "One.\n\nTwo.\n", "one paragraph"),
        ("12.fixed.md", "", "one paragraph"),
        ("12.fixed.md", "half a sentence\n", "sentences"),
        ("12.fixed.md", "Too long. " * 100 + "End.\n", "sentences"),
    ],
)
def test_others_are_refused(tmp_path, name, content, why) -> None:
    (tmp_path / name).write_text(content)
    assert bool(complaint(tmp_path / name)) == bool(why)
    assert why in complaint(tmp_path / name)


def test_a_release_finds_where_to_write() -> None:
    assert (HOME / CONFIGURED["filename"]).read_text().count(CONFIGURED["start_string"]) == 1
    assert HOME / CONFIGURED["directory"] == FOLDER


def test_the_kinds_are_recognized() -> None:
    told = (FOLDER / "README.md").read_text()
    assert all(f"`{kind}`" in told for kind in KINDS)
