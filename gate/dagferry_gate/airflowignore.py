"""Which files Airflow looks at: all in the dags folder but those that ``.airflowignore`` files exclude.

A file of that name may be in any folder, and counts for all below. Its syntax is a setting of Airflow: ``glob``, the
default of Airflow 3, or ``regexp``, that of Airflow 2. The answers are those of Airflow (``tests/gate`` has them as
recorded), except that a regexp with look-around, which only Airflow 3 knows, matches nothing here.

Patterns come from an upload and are not trusted. RE2 matches them in linear time, where Python's own ``re`` could take
years; and all of them together have ``MAX_SECONDS``.
"""

import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import re2

from dagferry_gate.findings import Problem, printable

IGNORE_FILE = ".airflowignore"
Syntax = Literal["glob", "regexp"]
MAX_IGNORE_BYTES = 64 * 1024
MAX_PATTERN_CHARACTERS = 1000
MAX_PATTERNS = 1000
"""How large a ``.airflowignore`` may be, how long a pattern, and how many patterns all files of a tree may have."""
MAX_IGNORE_TOTAL_BYTES = 4 * 1024 * 1024
"""How large all files of a tree may be together: they are in memory at the same time."""
MAX_PATTERN_MEMORY_BYTES = 64 * 1024
MAX_TOGETHER_MEMORY_BYTES = 128 * 1024
"""The memory of a compiled pattern, and of those that are matched at once: it also bounds the time of a match."""
MAX_SECONDS = 5.0
"""How long compiling and matching the patterns of a tree may take."""

_COMMENT = re.compile(r"[\t\n\f\r ]*#.*")
_LINE_END = re.compile(r"\r\n?|\n")
_DIRECTORY_MARK = "(?P<ps_d>/)"


class Listing(NamedTuple):
    """The paths that Airflow looks at, in their order, and what is wrong with ``.airflowignore`` files.

    ``none_found``: its search ends with an error at one of these problems, so that it finds no DAGs at all.
    """

    paths: list[str]
    problems: list[Problem]
    none_found: bool = False


class _Rule(NamedTuple):
    """A pattern: whether it ``ignores`` what it matches or takes that back, and what it is compared with.

    ``base`` is the folder that its paths are relative to; ``None``: only the last component counts.
    """

    expression: str
    pattern: "re2._Regexp"
    ignores: bool
    base: str | None
    folders_only: bool = False


class _Rules:
    """The rules that hold in a folder, in their order. In glob syntax, the paths of folders end with a slash."""

    def __init__(self, rules: Sequence[_Rule], *, is_glob: bool) -> None:
        self.rules = rules
        self._slash = "/" if is_glob else ""
        # Most paths match nothing. To find that out, all patterns with one base are matched at once.
        self._any: dict[str | None, re2._Regexp | None] = {}
        for base in {rule.base for rule in rules}:
            together = "|".join(f"(?:{rule.expression})" for rule in rules if rule.base == base)
            try:
                self._any[base] = _compiled(together, MAX_TOGETHER_MEMORY_BYTES)
            except re2.error:  # too large
                self._any[base] = None

    def ignore(self, path: str, *, is_folder: bool) -> bool:
        """Return whether the last rule that matches ignores ``path``."""
        texts = {}
        for base, any_rule in self._any.items():
            relative = path.rpartition("/")[2] if base is None else path[len(base) :].lstrip("/")
            text = (relative + self._slash if is_folder else relative).encode()
            if any_rule is None or any_rule.search(text):
                texts[base] = text
        if texts:
            for rule in reversed(self.rules):
                is_candidate = rule.base in texts and (is_folder or not rule.folders_only)
                if is_candidate and rule.pattern.search(texts[rule.base]):
                    return bool(rule.ignores)
        return False


class _TooMuch(Exception):
    """The patterns of the tree are too many, or take too long."""


def listed(paths: Iterable[str], ignore_files: Mapping[str, bytes], syntax: Syntax) -> Listing:
    """Return which of ``paths`` Airflow looks at.

    ``ignore_files`` has the content of each ``.airflowignore`` by its path, or more than ``MAX_IGNORE_BYTES`` of it.
    """
    paths = list(paths)
    search = _Search(ignore_files, is_glob=syntax == "glob")
    try:
        for path in ignore_files:  # Airflow walks through folders without a DAG file as well
            search.finds(path)
        return Listing([path for path in paths if search.finds(path)], search.problems, bool(search.problems))
    except _TooMuch as error:
        return Listing(paths, [Problem(IGNORE_FILE, 1, 1, str(error))])


class _Search:
    """Airflow's walk through the folders, as far as the patterns decide it."""

    def __init__(self, ignore_files: Mapping[str, bytes], *, is_glob: bool) -> None:
        self.problems: list[Problem] = []
        self._files = ignore_files
        self._is_glob = is_glob
        self._patterns = 0
        self._rules: dict[str, _Rules | None] = {}
        self._ends = time.monotonic() + MAX_SECONDS

    def finds(self, path: str) -> bool:
        """Return whether Airflow looks at the file at ``path``."""
        folder, _, name = path.rpartition("/")
        rules = self._rules_in(folder)
        return rules is not None and name != IGNORE_FILE and not self._ignored(path, rules, is_folder=False)

    def _rules_in(self, folder: str) -> _Rules | None:
        """Return the rules for what lies in ``folder``; ``None`` if Airflow does not enter it."""
        if folder not in self._rules:
            self._rules[folder] = self._find_rules(folder)
        return self._rules[folder]

    def _find_rules(self, folder: str) -> _Rules | None:
        above = self._rules_in(folder.rpartition("/")[0]) if folder else _Rules((), is_glob=self._is_glob)
        if above is None or (folder and self._ignored(folder, above, is_folder=True)):
            return None
        path = f"{folder}/{IGNORE_FILE}" if folder else IGNORE_FILE
        if path not in self._files:
            return above
        return _Rules([*above.rules, *self._read(path, folder)], is_glob=self._is_glob)

    def _ignored(self, path: str, rules: _Rules, *, is_folder: bool) -> bool:
        if rules.rules:
            self._check_time()
        return rules.ignore(path, is_folder=is_folder)

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise _TooMuch(f"the patterns of the .airflowignore files take longer than {MAX_SECONDS:.0f} s")

    def _read(self, path: str, folder: str) -> Iterator[_Rule]:
        """Yield the rules of an ignore file; what would end Airflow's search becomes a problem."""
        content = self._files[path]
        if len(content) > MAX_IGNORE_BYTES:
            raise _TooMuch(f"{path} is larger than {MAX_IGNORE_BYTES} bytes")
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            bad = content.count(b"\n", 0, error.start) + 1
            self.problems.append(Problem(path, bad, 1, f"the file is not UTF-8: {_ENDS}"))
            return
        compile_rules = _glob_rules if self._is_glob else _regexp_rules
        for number, line in enumerate(_LINE_END.split(text), 1):
            if not (pattern := _COMMENT.sub("", line)):
                continue
            self._check_time()
            self._patterns += 1
            if self._patterns > MAX_PATTERNS or len(pattern) > MAX_PATTERN_CHARACTERS:
                limits = f"{MAX_PATTERNS} patterns of {MAX_PATTERN_CHARACTERS} characters"
                raise _TooMuch(f"the .airflowignore files have more than {limits}; see {path}, line {number}")
            try:
                yield from compile_rules(pattern, folder)
            except (ValueError, re.error) as error:
                reason = printable(f"the pattern is invalid: {_ENDS} ({error})")
                self.problems.append(Problem(path, number, 1, reason))


_ENDS = "Airflow cannot read it, and finds no DAGs"


def _regexp_rules(pattern: str, _: str) -> list[_Rule]:
    """Compile a regexp, which may match anywhere in the path from the dags folder; Airflow skips an invalid one."""
    try:
        return [_Rule(pattern, _compiled(pattern), ignores=True, base="")]
    except re2.error:
        return []


def _glob_rules(pattern: str, folder: str) -> list[_Rule]:
    """Compile a pattern of .gitignore, as Airflow does; raise ``ValueError`` or ``re.error`` where Airflow would."""
    # 12 ms, which ``dagferry deploy`` does without if there is no such file.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415

    if pattern.strip() == "/":
        return []
    is_path = pattern.startswith("/") or "/" in pattern.rstrip("/")
    bare = pattern.lstrip("!").rstrip()
    expression, ignores = GitIgnoreSpecPattern.pattern_to_regex(pattern)
    if expression is None or ignores is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sets in a class
        re.compile(expression)
    expression = expression.replace(_DIRECTORY_MARK, "/")
    base = folder if is_path else None
    try:
        return [_Rule(expression, _compiled(expression), ignores, base, folders_only=bare.endswith("/"))]
    except re2.error:
        return []  # too large


def _compiled(pattern: str, max_bytes: int = MAX_PATTERN_MEMORY_BYTES) -> "re2._Regexp":
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = max_bytes
    return re2.compile(pattern.encode(), options)
