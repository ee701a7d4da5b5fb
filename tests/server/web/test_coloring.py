"""Lines are colored by what their words are, in escaped HTML, and line by line as they were."""

import re

import pytest
from markupsafe import Markup

from dagferry_server.web import coloring
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


def test_a_run_of_blank_lines_is_not_given_to_pygments(monkeypatch) -> None:
    """Its Python reads such a run anew from each line: 20 kB of these held up the whole server."""
    given: list[str] = []
    lexer = coloring._lexer("python")

    class Watching:
        def get_tokens_unprocessed(self, text: str):
            given.append(text)
            return lexer.get_tokens_unprocessed(text)

    monkeypatch.setattr(coloring, "_lexer", lambda _: Watching())
    lines = ["import os", " ", "\t ", "\x0c", "    return"]
    assert [Markup(html).striptags() for html in lines_of("a.py", lines)][0::4] == ["import os", "return"]
    assert lines_of("a.py", lines)[1:4] == [" ", "\t ", "⟨U+000C⟩"]
    assert given[0] == "import os\n\n\n\n    return"


def test_what_takes_too_long_has_no_colors() -> None:
    late = colored_lines("a.py", SOURCE, ends=0.0)
    assert [late(number) for number in range(len(SOURCE))] == [Markup.escape(line) for line in SOURCE]
