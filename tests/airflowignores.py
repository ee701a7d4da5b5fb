"""Trees with ``.airflowignore`` files, and what real Airflow reads of them.

The answers in ``gate/airflowignore_answers.json`` are those of Airflow 2.11.2 and 3.3.2.
``tests/airflow/test_airflowignore.py`` asks both again, and writes the file if ``DAGFERRY_RECORD`` is set.
"""

import json
from pathlib import Path

ANSWERS = Path(__file__).parent / "gate/airflowignore_answers.json"
IGNORE = ".airflowignore"

_TREE = (
    "a.py",
    "b.py",
    "ab.py",
    "test_a.py",
    "tests/a.py",
    "tests/deep/b.py",
    "team/a.py",
    "team/helpers/a.py",
    "team/helpers/b.py",
    "team/tests/a.py",
    "team/other/tests/x/a.py",
    "helpers.py",
    "helpers/a.py",
    "helpers/keep.py",
    "übung/a.py",
    "with space/a b.py",
    "a#b.py",
    "[x].py",
    "x.py",
    "!a.py",
    "data.sql",
)

_ROOT = {
    "nothing": "",
    "blank lines": "\n\n  \n\t\n",
    "a name": "a.py",
    "a word": "a",
    "a folder": "tests",
    "a folder with a slash": "tests/",
    "an anchored folder": "/tests",
    "an anchored folder with a slash": "/tests/",
    "an anchored file": "/a.py",
    "a folder in the middle": "team/helpers",
    "a folder in the middle with a slash": "team/helpers/",
    "all below": "tests/*",
    "all below, deep": "tests/**",
    "stars in front": "**/tests",
    "stars in front of a file": "**/a.py",
    "stars in the middle": "team/**/a.py",
    "stars alone": "**",
    "stars and a slash": "**/",
    "a star": "*",
    "a star and a slash": "*/",
    "a suffix": "*.py",
    "a question mark": "?.py",
    "a class": "[ab].py",
    "a class of others": "[!a].py",
    "a class of others with a caret": "[^a].py",
    "an escaped class": "\\[x\\].py",
    "an open class": "[ab",
    "a backwards class": "[z-a].py",
    "an escaped letter": "\\a.py",
    "a backslash at the end": "a\\",
    "a bang alone": "!",
    "a slash alone": "/",
    "a slash with spaces": " / ",
    "two slashes": "//",
    "a negation": "*.py\n!a.py",
    "a negation that comes first": "!a.py\n*.py",
    "a negation below an ignored folder": "helpers/\n!helpers/keep.py",
    "a negation below an ignored content": "helpers/*\n!helpers/keep.py",
    "a negated folder": "*/\n!team/",
    "an escaped bang": "\\!a.py",
    "a comment": "# a.py\nb.py",
    "a comment at the end": "a.py # not this one",
    "a comment without a space": "a.py#b",
    "an escaped number sign": "a\\#b.py",
    "spaces at the end": "a.py  ",
    "spaces in front": "  a.py",
    "an escaped space": "a\\ b.py",
    "a space in a name": "with space/",
    "windows line ends": "a.py\r\nb.py\r\n",
    "old mac line ends": "a.py\rb.py",
    "other line ends": "a.py\x0bb.py\x0cab.py\x85x.py\u2028helpers.py",
    "no-break space before a comment": "a.py\u00a0# why",
    "a byte order mark": "\ufeffa.py",
    "letters beyond ASCII": "übung",
    "a dot for a letter beyond ASCII": ".bung/",
    "a regexp": ".*_a\\.py",
    "a regexp for a folder": "team/.*/a\\.py",
    "a regexp with ends": "^a\\.py$",
    "a regexp with alternatives": "(tests|helpers)/",
    "a regexp without case": "(?i)A\\.PY",
    "a regexp that is invalid": "a(\nb.py",
    "a regexp with a repetition of nothing": "*a",
    "a regexp that looks ahead": "a(?=\\.py)",
    "a regexp that looks behind": "(?<!test_)a\\.py",
    "a regexp with a reference": "(a)\\1",
    "a regexp with a word": "\\bhelpers\\b",
    "a regexp with a class of letters": "\\w+ \\w+",
    "a regexp with its own flags": "b\\.py|(?s:a.py)",
    "capital letters": "A.PY",
}

_DEEPER = {
    "a file below": {"team/.airflowignore": "helpers"},
    "an anchor below": {"team/.airflowignore": "/helpers"},
    "a path below": {"team/.airflowignore": "team/helpers"},
    "a path from the folder": {"team/.airflowignore": "other/tests"},
    "a negation below": {IGNORE: "a.py", "team/.airflowignore": "!a.py"},
    "a negated folder is entered": {IGNORE: "tests", "team/.airflowignore": "!tests"},
    "the same twice": {IGNORE: "a.py\na.py", "team/.airflowignore": "a.py"},
    "an ignored folder's own file": {IGNORE: "team", "team/.airflowignore": "!a.py"},
    "the ends of a path below": {"team/.airflowignore": "^a\\.py$\n^team/a\\.py$"},
    "siblings do not share": {"team/.airflowignore": "a.py", "tests/.airflowignore": "b.py"},
    "an ignore file that is ignored": {IGNORE: ".airflowignore", "team/.airflowignore": "a.py"},
    "a folder called so": {".airflowignore/a.py": "", "team/.airflowignore": "a.py"},
}

CASES: dict[str, dict[str, str]] = {
    **{name: {**dict.fromkeys(_TREE, ""), IGNORE: text} for name, text in _ROOT.items()},
    **{name: {**dict.fromkeys(_TREE, ""), **files} for name, files in _DEEPER.items()},
    "one that is not UTF-8": {"a.py": "", "b.py": "", "team/a.py": "", "team/.airflowignore": "\udce9\n"},
}
"""Name to the files of the tree. Contents are encoded with ``surrogateescape``."""


def content(text: str) -> bytes:
    """Return a file's bytes."""
    return text.encode(errors="surrogateescape")


def answers() -> dict[str, dict[str, list[str] | str]]:
    """Return, for each case, the paths that were read with each syntax, or the name of the error that ended it."""
    recorded: dict[str, dict[str, list[str] | str]] = json.loads(ANSWERS.read_text())
    return recorded
