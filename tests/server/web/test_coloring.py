"""Lines are colored by what their words are, in escaped HTML, and line by line as they were."""

import re

import pytest
from markupsafe import Markup

from dagferry_server.web.coloring import MAX_COLORED_CHARACTERS, MAX_COLORED_LINE_CHARACTERS, colored_lines

SOURCE = ["import os  # why", "@task", "def f(x):", '    """Two', '    lines."""', "    return 'a<b' and 1", ""]


def lines_of(path: str, lines: list[str]) -> list[Markup]:
    line = colored_lines(path, lines)
    return [line(number) for number in range(len(lines))]


def test_words_of_python_have_classes() -> None:
    lines = lines_of("a.py", SOURCE)
    assert lines[0] == '<b class="k">import</b> os  <b class="c"># why</b>'
    assert '<b class="d">@task</b>' in lines[1]
    assert '<b class="f">f</b>' in lines[2]
    assert lines[3].endswith('<b class="s">"""Two</b>'.replace('"""', "&#34;&#34;&#34;"))
    assert 'class="s"' in lines[4], "a text of several lines is one on each of them"
    assert "a&lt;b" in lines[5]
    assert '<b class="k">and</b>' in lines[5]


@pytest.mark.parametrize(
    "path", ["a.py", "a.sql", "a.yaml", "a.json", "a.toml", "a.sh", "a.ini", "a.txt", "py", "A.PY"]
)
def test_without_its_tags_a_line_is_the_line(path: str) -> None:
    attack = [
        "</td></table><script>alert(1)</script>",
        "select '&amp;' from \"x\"; -- <b>",
        "{{ x }} \t 'unclosed",
        "\r",
    ]
    for line, html in zip(attack, lines_of(path, attack), strict=True):
        tags = re.findall(r"<[^>]*>", html)
        assert all(re.fullmatch('<b class="[a-z]">|</b>', tag) for tag in tags)
        assert Markup(html).striptags() == Markup.escape(line).replace("\r", "⟨U+000D⟩").striptags()


def test_what_is_long_or_of_another_language_has_no_colors() -> None:
    assert lines_of("a.rs", ["let x = 1; // <"]) == ["let x = 1; // &lt;"]
    assert lines_of("a.py", ["import os"] * (MAX_COLORED_CHARACTERS // 9))[0] == "import os"
    assert lines_of("a.py", ["import os", "#" * (MAX_COLORED_LINE_CHARACTERS + 1)])[0] == "import os"


def test_invisible_characters_are_shown() -> None:
    assert "⟨U+202E⟩" in lines_of("a.py", ["x = '\u202e'"])[0]
