"""ruff says what Python would not compile, whatever the sources contain, within its limits."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dagferry_gate import ruff as ruff_module
from dagferry_gate.errors import CheckFailed, RuffMissing
from dagferry_gate.ruff import CLEAN, FOLDER_PREFIX, MAX_KEPT, Report, Ruff, find_ruff
from dagferry_gate.rules import PYTHONS
from harness import eventually

RUFF = find_ruff()


def check(*sources: str | bytes, python: str = "3.11", removals: bool = False, ruff: Ruff = RUFF) -> list[Report]:
    data = [source if isinstance(source, bytes) else source.encode() for source in sources]
    return list(ruff.check(data, python, removals=removals))


def fake(folder: Path, script: str, **limits: float) -> Ruff:
    path = folder / "ruff"
    path.write_text(f"#!{sys.executable}\n{script}\n")
    path.chmod(0o755)
    return Ruff(str(path), **limits)


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


NEWER = [
    ("3.8", "3.10", "match x:\n    case 1:\n        pass\n"),
    ("3.8", "3.9", "with (open(a) as b, open(c) as d):\n    pass\n"),
    ("3.8", "3.9", "@a[0].b\ndef f(): pass\n"),
    ("3.10", "3.11", "try:\n    pass\nexcept* ValueError:\n    pass\n"),
    ("3.10", "3.11", "x[*a]\n"),
    ("3.11", "3.12", "type X = int\n"),
    ("3.11", "3.12", "def f[T](x: T): pass\n"),
    ("3.11", "3.12", 'print(f"{"a"}")\n'),
    ("3.11", "3.12", 'print(f"{x!r:{"a"}}")\n'),
    ("3.12", "3.13", "def f[T = int](x: T): pass\n"),
    ("3.13", "3.14", "try:\n    pass\nexcept ValueError, TypeError:\n    pass\n"),
    ("3.13", "3.14", 't = t"{x}"\n'),
]


@pytest.mark.parametrize(("before", "since", "source"), NEWER)
def test_syntax_is_that_of_the_deployments_python(before, since, source) -> None:
    assert [report.error_count > 0 for report in check(source, python=before)] == [True]
    assert check(source, python=since) == [CLEAN]


def test_a_walrus_parses_in_the_oldest_python() -> None:
    assert check("print(y := 1)\ndef f(a, /): pass\n", python="3.8") == [CLEAN]


def test_metadata_of_a_script_does_not_change_the_python() -> None:
    source = '# /// script\n# requires-python = ">=3.14"\n# ///\ntype X = int\n'
    assert check(source, python="3.11")[0].error_count == 1


REFUSED = [
    "def f(:\n    pass\n",
    "print 'a'\n",
    "x = (\n",
    "if 1:\npass\n",
    "x = 1\n  y = 2\n",
    "return 1\n",
    "break\n",
    "continue\n",
    "yield 1\n",
    "await x\n",
    "def f():\n    await x\n",
    "class A:\n    return 1\n",
    "def f():\n    nonlocal x\n",
    "def f():\n    print(x)\n    global x\n",
    "def f(a, a): pass\n",
    "x = 1\nfrom __future__ import annotations\n",
    "from __future__ import nothing\n",
    "*a, *b = c\n",
    "try: pass\nexcept: pass\nexcept A: pass\n",
    "def f():\n    from x import *\n",
    "async def f(): yield from x\n",
    "f(a=1, a=2)\n",
    "None = 1\n",
    "lambda x, x: 1\n",
    "'\\x1'\n",
    "'''a\n",
    "x = '\n",
    "f() = 1\n",
    "async = 1\n",
    "\tif 1:\n        x\n",
]


@pytest.mark.parametrize("source", REFUSED)
def test_what_python_does_not_compile_is_an_error(source) -> None:
    with pytest.raises(SyntaxError):
        compile(source, "it", "exec")
    assert check(source)[0].error_count > 0


@pytest.mark.parametrize("source", REFUSED)
@pytest.mark.parametrize("comment", ["# noqa", "# ruff: noqa", "# flake8: noqa", "# ruff: file-ignore[F]"])
def test_no_comment_hides_it(source, comment) -> None:
    hidden = "".join(f"{line}  {comment}\n" for line in source.splitlines())
    assert check(f"{comment}\n# ruff: disable[F,PLE]\n{hidden}")[0].error_count > 0


def test_what_parses_has_no_findings_however_ugly() -> None:
    assert check("import os, sys\nfrom x import *\nx=undefined;y = 1\nl = lambda: None\n", "", "\n", "#") == [CLEAN] * 4


def test_each_source_has_its_own_report_in_its_place() -> None:
    sources = ["x = 1\n" if number % 3 else f"{' ' * number}\nx = (\n" for number in range(30)]
    assert [report.error_count for report in check(*sources)] == [0 if number % 3 else 1 for number in range(30)]


def test_lines_and_columns_count_from_one_and_in_characters() -> None:
    assert check("x = 1\r\näöü = '😀'; = 2\n")[0].errors[0][:2] == (2, 12)
    assert check("\t= 2\n")[0].errors[0][:2] in {(1, 1), (1, 2)}


def test_what_airflow_3_removed_is_a_warning_only_where_asked() -> None:
    source = "import os\nfrom airflow import DAG\nDAG('a', schedule_interval='@daily')\n"
    assert check(source) == [CLEAN]
    report = check(source, removals=True)[0]
    assert (report.error_count, report.warning_count) == (0, 1)
    assert report.warnings[0][:2] == (3, 10)
    assert report.warnings[0].message.startswith("AIR301 `schedule_interval` is removed")


def test_of_many_errors_the_first_are_kept_and_all_are_counted() -> None:
    report = check("break\n" * 1000)[0]
    assert (len(report.errors), report.error_count) == (MAX_KEPT, 1000)
    assert [error.line for error in report.errors] == list(range(1, MAX_KEPT + 1))


def test_settings_beside_the_sources_or_in_the_environment_are_not_read(tmp_path, monkeypatch) -> None:
    (tmp_path / "ruff.toml").write_text("exclude = ['*']\n[lint]\nignore = ['ALL']\n")
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nexclude = ['*']\n")
    (tmp_path / ".gitignore").write_text("*\n")
    monkeypatch.setenv("RUFF_OUTPUT_FORMAT", "concise")
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(tmp_path / "out"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "ruff").mkdir()
    (tmp_path / "ruff/ruff.toml").write_text("exclude = ['*']\n")
    assert [
        report.error_count for report in RUFF.check([b"break\n"], "3.11", removals=False, scratch=str(tmp_path))
    ] == [1]


def test_nothing_is_left_where_the_sources_were_written(tmp_path) -> None:
    list(RUFF.check([b"x", b"("], "3.11", removals=False, scratch=str(tmp_path)))
    slow = fake(tmp_path, "import time; time.sleep(60)", max_seconds=0.2)
    with pytest.raises(CheckFailed):
        list(slow.check([b"x"], "3.11", removals=False, scratch=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["ruff"]


DEEP = {
    "brackets": "(" * 1_000_000,
    "closed brackets": "[" * 200_000 + "]" * 200_000,
    "attributes": "a" + ".b" * 200_000,
    "operators": "1" + "+1" * 200_000,
    "signs": "-" * 200_000 + "1",
    "memory": "-" * 1_000_000 + "1",
}


@pytest.mark.parametrize("name", DEEP)
def test_a_source_that_ruff_crashes_on_is_an_error_and_the_others_are_checked(name) -> None:
    reports = check("x = 1\n", "(\n", DEEP[name], "x = 2\n")
    assert [report.error_count > 0 for report in reports] == [False, True, True, False]
    assert check(DEEP[name]) == [reports[2]]


BOMBS = {
    "lambdas": "# airflow dag\n" + "lambda:" * 2000 + "[" + "x," * 400_000 + "]",
    "strings": "# airflow dag\n" + "f'{a}'" * 150_000,
}


@pytest.fixture
def hasty(monkeypatch) -> None:
    """A source may take 1 s."""
    monkeypatch.setattr(ruff_module, "MAX_SOURCE_SECONDS", 1)
    monkeypatch.setattr(ruff_module, "MAX_BATCH_SECONDS", 1)


@pytest.mark.usefixtures("hasty")
@pytest.mark.skipif(sys.platform != "linux", reason="limits from outside are Linux's")
@pytest.mark.parametrize("name", BOMBS)
def test_a_source_that_takes_too_long_is_an_error_and_the_others_are_checked(name) -> None:
    reports = check("x = 1\n", "(\n", BOMBS[name], *["x = 2\n"] * 500)
    assert [report.error_count for report in reports] == [0, 1, 1, *[0] * 500]
    assert reports[2].errors == ((1, 1, "cannot be checked: it takes more than 5 s"),)


@pytest.mark.skipif(sys.platform != "linux", reason="limits from outside are Linux's")
def test_sources_that_only_together_take_long_are_no_errors(tmp_path) -> None:
    script = "import sys\nwhile sum(name[0].isdigit() for name in sys.argv) > 1: pass"
    assert check("x", "x", ruff=fake(tmp_path, script)) == [CLEAN] * 2


def test_waiting_is_not_the_fault_of_a_source(tmp_path) -> None:
    with pytest.raises(CheckFailed, match="took too long"):
        check("x", ruff=fake(tmp_path, "import time; time.sleep(60)", max_seconds=0.5))


def test_what_was_found_before_the_time_is_over_is_reported(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ruff_module, "MAX_BATCH_FILES", 1)
    script = "import time\nif open('0.py').read() == 'slow': time.sleep(60)"
    reports = fake(tmp_path, script, max_seconds=8).check([b"x", b"y", b"slow"], "3.11", removals=False)
    assert [next(reports), next(reports)] == [CLEAN] * 2
    with pytest.raises(CheckFailed, match="took too long"):
        next(reports)


def test_a_check_of_many_sources_leaves_room_for_others(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ruff_module, "MAX_BATCH_FILES", 1)
    order = tmp_path / "order"
    script = f"import time; print(open('0.py').read(), file=open({str(order)!r}, 'a')); time.sleep(0.5)"
    ruff = fake(tmp_path, script)
    with ThreadPoolExecutor() as threads:
        many = threads.submit(check, *["many"] * 6, ruff=ruff)
        eventually("the first to run", order.exists)
        check("other", ruff=ruff)
        assert many.result() == [CLEAN] * 6
    assert order.read_text().split().index("other") < 6


def test_what_python_nests_as_deep_as_it_can_is_no_crash() -> None:
    assert check("x = 1" + "+1" * 2500, "(" * 190 + "1" + ")" * 190, "f" + ".a()" * 1300) == [CLEAN] * 3


def test_a_large_source_is_checked() -> None:
    assert check("x = 1  # a comment\n" * 500_000 + "(\n")[0].error_count == 1


def test_a_source_with_more_errors_than_memory_is_an_error() -> None:
    assert check("x = 1\n", "$ x $\n" * 1_000_000)[1].error_count > 0


def test_the_output_is_limited(monkeypatch) -> None:
    monkeypatch.setattr(ruff_module, "MAX_OUTPUT_BYTES", 100_000)
    reports = check(*["break\n" * 200] * 4, "break\n" * 10_000, "x = 1\n")
    assert [report.error_count for report in reports[:4]] == [200] * 4
    assert reports[4].error_count > MAX_KEPT
    assert reports[5] == CLEAN


def test_many_sources_are_checked_in_batches(monkeypatch) -> None:
    monkeypatch.setattr(ruff_module, "MAX_BATCH_FILES", 3)
    monkeypatch.setattr(ruff_module, "MAX_BATCH_BYTES", 100)
    sources = ["x = 1\n"] * 7 + ["x" * 90 + "\n", "y" * 200 + " = (", "(\n"]
    assert [report.error_count for report in check(*sources)] == [0] * 8 + [1, 1]


def test_only_one_source_is_in_memory_at_a_time(tmp_path) -> None:
    written = []

    def sources() -> Iterator[bytes]:
        for number in range(3):
            yield b"x = 1\n"
            written.append([path.name for path in tmp_path.glob(f"{FOLDER_PREFIX}*/{number}.py")])

    assert list(RUFF.check(sources(), "3.11", removals=False, scratch=str(tmp_path))) == [CLEAN] * 3
    assert written == [["0.py"], ["1.py"], ["2.py"]]
    assert list(tmp_path.iterdir()) == []


def test_without_a_source_nothing_is_written_or_started(tmp_path) -> None:
    assert list(Ruff("/nonexistent").check([], "3.11", removals=False, scratch=str(tmp_path / "gone"))) == []


@pytest.mark.parametrize("child", ["", "import subprocess; subprocess.Popen(['sleep', '60']); "])
def test_a_ruff_that_hangs_is_killed_with_its_group(tmp_path, child) -> None:
    script = f"import os, time; {child}open({str(tmp_path / 'group')!r}, 'w').write(str(os.getpgid(0))); time.sleep(60)"
    with pytest.raises(CheckFailed, match="took too long"):
        check("x", ruff=fake(tmp_path, script, max_seconds=1))
    group = int((tmp_path / "group").read_text())
    assert group != os.getpgid(0)
    eventually("the group to be gone", lambda: not group_exists(group))


def test_a_ruff_that_leaves_its_output_open_is_killed_with_its_group(tmp_path) -> None:
    with pytest.raises(CheckFailed, match="took too long"):
        check("x", ruff=fake(tmp_path, "import subprocess; subprocess.Popen(['sleep', '60'])", max_seconds=1))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("import sys; print('bad \\x1b flag', file=sys.stderr); sys.exit(2)", "exit code 2. bad \ufffd flag"),
        ("print('no json')", "unknown line: no json"),
        ("print('{}')", "unknown line"),
        ('import sys; print(\'{"filename": "0.py", "code": "E902", "location": null}\')', "unknown line"),
        ("print('[1]')", "unknown line"),
        ("import sys; sys.stderr.write('x' * 10_000_000); sys.exit(3)", "exit code 3"),
    ],
)
def test_a_ruff_that_fails_is_an_error_that_says_how(tmp_path, script, message) -> None:
    with pytest.raises(CheckFailed, match=message):
        check("x", ruff=fake(tmp_path, script))


@pytest.mark.skipif(sys.platform != "linux", reason="limits from outside are Linux's")
def test_time_memory_and_core_files_of_the_process_are_limited(tmp_path) -> None:
    script = f"""
import resource, time
end = time.time() + 20
while resource.getrlimit(resource.RLIMIT_CORE) != (0, 0) and time.time() < end: time.sleep(0.01)
with open({str(tmp_path / "limits")!r}, "w") as file:
    print(resource.getrlimit(resource.RLIMIT_AS)[1], resource.getrlimit(resource.RLIMIT_CPU)[1] < 100, file=file)
"""
    assert check("x", ruff=fake(tmp_path, script)) == [CLEAN]
    assert (tmp_path / "limits").read_text() == f"{ruff_module.MAX_MEMORY_BYTES} True\n"


def test_without_ruff_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ruff", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RuffMissing, match="not installed") as caught:
        find_ruff()
    assert "pip install" in caught.value.hint


def test_the_ruff_in_path_is_used_where_there_is_no_package(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ruff", None)
    fake(tmp_path, "print('ruff 0.99.1')")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ruff().path == str(tmp_path / "ruff")


@pytest.mark.parametrize(
    ("script", "message"),
    [("print('ruff 0.13.9')", "too old: ruff 0.13.9"), ("print('x')", "does not start"), ("exit(1)", "does not start")],
)
def test_a_ruff_that_cannot_be_used_is_an_error_at_start(tmp_path, monkeypatch, script, message) -> None:
    monkeypatch.setitem(sys.modules, "ruff", None)
    fake(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuffMissing, match=message):
        find_ruff()


def test_on_windows_the_error_says_who_checks_instead(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(RuffMissing, match="does not run on Windows") as caught:
        find_ruff()
    assert "leave it to the server" in caught.value.hint


def test_the_pinned_ruff_knows_every_python_of_the_rules() -> None:
    for python in PYTHONS:
        assert check("x = 1\n", python=python) == [CLEAN]
