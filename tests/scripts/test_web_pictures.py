"""The pictures of the web page are those of this page, and can be made again."""

import runpy
from pathlib import Path

import pytest

from pages import DOCS, HOME

SCRIPT = runpy.run_path(str(HOME / "scripts" / "web_pictures.py"))
NAMES = sorted(f"{name}-{scheme}.png" for name in SCRIPT["PICTURES"] for scheme in SCRIPT["SCHEMES"])


def test_no_picture_is_older_than_the_page() -> None:
    assert SCRIPT["MARK"].read_text() == SCRIPT["mark"](), "Run: python scripts/web_pictures.py, and look at them"


def test_there_are_those_pictures_and_no_others() -> None:
    assert sorted(path.name for path in (DOCS / "images").glob("web-*.png")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_it(name: str) -> None:
    pages = [HOME / "README.md", *DOCS.rglob("*.md")]
    assert any(f"images/{name}" in page.read_text() for page in pages)


@pytest.mark.slow
def test_they_can_be_made_again(tmp_path: Path) -> None:
    SCRIPT["draw"](tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    for name in NAMES:
        drawn, kept = (folder.joinpath(name).read_bytes() for folder in (tmp_path, DOCS / "images"))
        assert drawn.startswith(b"\x89PNG")
        assert drawn[16:24] == kept[16:24], "the size"
