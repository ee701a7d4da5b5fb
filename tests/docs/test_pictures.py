"""The pictures are drawn from the sources beside them: neither is newer than the other."""

import runpy

import pytest

from pages import DOCS, HOME

PICTURES = runpy.run_path(str(HOME / "scripts" / "pictures.py"))
SOURCES = sorted((DOCS / "images").glob("*.dot"))


def test_there_are_pictures_and_each_has_a_source() -> None:
    assert SOURCES
    drawn = {path.stem for path in (DOCS / "images").glob("*.svg")} - {"transcript"}  # test_transcript.py
    assert drawn == {source.stem for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_picture_is_that_of_its_source(source) -> None:
    assert PICTURES["mark"](source) in source.with_suffix(".svg").read_text(), "Run: python scripts/pictures.py"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_page_shows_it(source) -> None:
    pages = [HOME / "README.md", *DOCS.rglob("*.md")]
    assert any(f"images/{source.stem}.svg" in page.read_text() for page in pages)
