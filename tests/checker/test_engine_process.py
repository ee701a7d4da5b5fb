"""The engine's process: started when needed, replaced when it is used up, ends or hangs; it is not trusted."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

import fake_airflow
from dagferry_checker import engine_process
from dagferry_checker.engine_process import Engine, Settings, Unwanted, Versions, outcome_of
from dagferry_checker.errors import AirflowMissing, ImportCheckFailed
from dagferry_checker.judge import Known, problems_of
from dagferry_checker.limits import Limits
from dagferry_checker.problems import Kind
from harness import eventually

SETTINGS = Settings(2, Limits(10.0, 256 << 20), "stub")


WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()
"""What starts a command of the same user without the privileges of root."""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}


@pytest.fixture
def make(tmp_path):
    made = []

    def start(command=fake_airflow.COMMAND, settings=SETTINGS, **variables) -> Engine:
        (tmp_path / "scratch").mkdir(exist_ok=True)
        made.append(Engine(settings, str(tmp_path / "scratch"), environment(**variables), command))
        return made[-1]

    yield start
    for engine in made:
        engine.close()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()

    def write(**files: str) -> str:
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        return str(folder)

    return write


def test_files_are_listed_and_parsed(make, tree) -> None:
    engine = make()
    folder = tree(a="DAGS = ['x', 'y']", b="import shop", shop="ASKED = ['variable:v']", c="import nothing_like_this")
    assert engine.list_files(folder) == ["a.py", "b.py", "c.py", "shop.py"]
    found = engine.parse(folder, ["a.py", "b.py", "c.py"])
    assert found["a.py"].dags == ("x", "y")
    assert found["b.py"].faults == ()
    assert [(fault.kind, fault.line) for fault in found["c.py"].faults] == [(Kind.IMPORT, 1)]
    assert engine.versions == Versions("9.9.9", ".".join(map(str, sys.version_info[:3])))
    assert engine.starts == 1


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("import os; os._exit(4)", Kind.EXIT, "exit code 4"),
        ("raise SystemExit(1)", Kind.EXIT, "SystemExit: 1"),
        ("while True: pass", Kind.TIMEOUT, "within 0.5 s (--timeout)"),
        ("import ctypes; ctypes.string_at(0)", Kind.CRASH, "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Kind.MEMORY, "killed by the system"),
        ("x = b'x' * (600 << 20)", Kind.MEMORY, "MemoryError"),
        ("def f(:", Kind.SYNTAX, "SyntaxError"),
    ],
)
def test_each_end_of_a_parse_is_named_and_the_engine_goes_on(make, tree, code, kind, says) -> None:
    engine = make(settings=Settings(1, Limits(0.5, 256 << 20), "stub"))
    folder = tree(bad=code, good="DAGS = ['x']")
    found = engine.parse(folder, ["bad.py", "good.py"])
    [fault] = found["bad.py"].faults
    assert fault.kind is kind
    assert says in fault.message
    assert fault.line in {0, 1}
    assert found["good.py"].dags == ("x",)
    assert engine.starts == 1


def test_folders_however_deep_are_removed_and_the_engine_goes_on(make, tree) -> None:
    engine = make()
    deep = "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\nDAGS = ['x']"
    folder = tree(deep=deep, good="DAGS = ['y']")
    assert {path: found.dags for path, found in engine.parse(folder, ["deep.py", "good.py"]).items()} == {
        "deep.py": ("x",),
        "good.py": ("y",),
    }
    assert engine.starts == 1


def test_an_old_error_is_the_same_in_every_home(make, tree) -> None:
    engine = make()
    folder = tree(
        dag="import os\nopen(os.path.expanduser('~/.dbt/profiles.yml'))", cwd="open(__import__('os').getcwd())"
    )
    live, again = (engine.parse(folder, ["dag.py", "cwd.py"]) for _ in range(2))
    problems, _ = problems_of(again, Known(live))
    assert {problem.path: problem.new for problem in problems} == {"dag.py": False, "cwd.py": False}
    [fault] = again["dag.py"].faults
    assert fault.message.endswith("No such file or directory: '~/.dbt/profiles.yml'")
    assert "/home-" not in fault.trace


def test_a_folder_that_a_dag_file_removed_is_made_again(make, tree, tmp_path) -> None:
    engine = make(settings=SETTINGS._replace(jobs=1))
    folder = tree(bad=f"import shutil\nshutil.rmtree({str(tmp_path / 'scratch')!r})", good="DAGS = ['x']")
    assert engine.parse(folder, ["bad.py", "good.py"])["good.py"].dags == ("x",)


def test_an_engine_without_a_folder_is_an_error_of_the_check(make, tmp_path) -> None:
    engine = make()
    (tmp_path / "scratch").rmdir()
    (tmp_path / "scratch").touch()
    with pytest.raises(ImportCheckFailed, match="no folder"):
        _ = engine.versions
    (tmp_path / "scratch").unlink()
    (tmp_path / "scratch").mkdir()


WHOLE = {
    "name": "a.py",
    "result": {"dags": []},
    "signal": 0,
    "code": 0,
    "timed_out": False,
    "fault": "",
    "peak": 1,
    "seconds": 0.1,
    "starved": False,
}


@pytest.mark.parametrize(
    "other",
    [
        *({"name": 1}, {"result": []}, {"signal": "9"}, {"signal": True}, {"code": None}, {"timed_out": 1}),
        *({"fault": None}, {"seconds": "x"}, {"seconds": float("nan")}, {"seconds": 10**400}, {"starved": "no"}),
    ],
    ids=str,
)
def test_what_a_dag_file_writes_in_the_place_of_the_engine_is_an_error_of_the_check(make, tree, other) -> None:
    """Whatever it is, and nothing else than an error that the follower expects."""
    lines = [{"ready": True, "airflow": "9", "python": "3"}, {"ended": {**WHOLE, **other}}, {"done": True}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    engine = make((sys.executable, "-c", f"import time; print({text!r}, flush=True); time.sleep(60)"))
    with pytest.raises(ImportCheckFailed, match="something else"):
        engine.parse(tree(a=""), ["a.py"])
    assert engine._process is None


def test_nor_may_a_part_be_missing() -> None:
    assert engine_process._read_answer(json.dumps({"ended": WHOLE}).encode())
    for name in engine_process._ENDED:
        part = {key: value for key, value in WHOLE.items() if key != name}
        assert engine_process._read_answer(json.dumps({"ended": part}).encode()) is None


def test_a_dag_file_cannot_write_in_the_place_of_the_engine(tree, tmp_path) -> None:
    """Nor has it lost what is its own: its environment is readable."""
    code = """
import os
DAGS = ["own"] if os.listdir("/proc/self/fd") and open("/proc/self/environ").read() else []
try:
    DAGS += [os.readlink(f"/proc/{os.getppid()}/fd/{fd}") for fd in os.listdir(f"/proc/{os.getppid()}/fd")]
except PermissionError:
    pass
"""
    (tmp_path / "scratch").mkdir()
    command = [*WITHOUT_PRIVILEGES, *fake_airflow.COMMAND]
    engine = Engine(SETTINGS, str(tmp_path / "scratch"), environment(), command)
    try:
        assert engine.parse(tree(look=code), ["look.py"])["look.py"].dags == ("own",)
    finally:
        engine.close()


def test_what_a_file_runs_in_the_background_lives_as_long_as_its_parse(make, tree) -> None:
    """Also while parses beside it end: here ``b.py``, which ends when the other has its helper."""
    helper = """
import os, subprocess, time
pid = int(subprocess.check_output(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]))
open(__file__ + ".ready", "w").close()
while not os.path.exists(__file__ + ".ended"):
    time.sleep(0.05)
os.kill(pid, 0)
DAGS = ["x"]
"""
    folder = tree(
        a=helper,
        b="import os, time\nwhile not os.path.exists(__file__[:-4] + 'a.py.ready'): time.sleep(0.05)",
        c="open(__file__[:-4] + 'a.py.ended', 'w')",
    )
    found = make().parse(folder, ["a.py", "b.py", "c.py"])["a.py"]
    assert (found.dags, found.faults) == (("x",), ())


def test_a_file_with_very_much_to_say_is_cut_and_not_lost(make, tree) -> None:
    many = "DAGS = ['\\U0001f600' * 300 + str(n) for n in range(20_000)]\nASKED = ['\\U0001f600' * 90_000] * 90"
    long = "raise ValueError('\\U0001f600' * 2_000_000)"
    found = make().parse(tree(many=many, long=long), ["many.py", "long.py"])
    assert [fault.kind for outcome in found.values() for fault in outcome.faults] == [Kind.IMPORT]
    assert found["many.py"].dags


def test_no_files_start_no_engine(make, tree) -> None:
    engine = make()
    assert engine.parse(tree(), []) == {}
    assert engine.starts == 0


KILL = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_kills_the_engine_has_the_fault_and_no_other(make, tree, jobs) -> None:
    engine = make(settings=SETTINGS._replace(jobs=jobs))
    folder = tree(a="DAGS = ['a']", kill=KILL, z="DAGS = ['z']", zz="DAGS = ['zz']")
    found = engine.parse(folder, ["a.py", "kill.py", "z.py", "zz.py"])
    [fault] = found["kill.py"].faults
    assert (fault.kind, fault.message) == (Kind.CRASH, engine_process._ENDED_PARENT)
    assert [found[path].dags for path in ("a.py", "z.py", "zz.py")] == [("a",), ("z",), ("zz",)]
    assert engine.parse(folder, ["a.py"])["a.py"].dags == ("a",)


def test_too_many_files_that_kill_the_engine_end_the_check(make, tree, monkeypatch) -> None:
    monkeypatch.setattr(engine_process, "MAX_BLAMED", 1)
    engine = make()
    folder = tree(a=KILL, b=KILL)
    with pytest.raises(ImportCheckFailed, match="The engine ended"):
        engine.parse(folder, ["a.py", "b.py"])


def test_a_file_that_stops_the_engine_has_the_fault(make, tree, monkeypatch) -> None:
    monkeypatch.setattr(engine_process, "SILENCE_SECONDS", 0.0)
    engine = make(settings=Settings(1, Limits(1.0, 256 << 20), "stub"))
    folder = tree(stop="import os, signal; os.kill(os.getppid(), signal.SIGSTOP)")
    [fault] = engine.parse(folder, ["stop.py"])["stop.py"].faults
    assert fault.kind is Kind.CRASH


def test_a_listing_that_hangs_is_an_error(make, tree, monkeypatch) -> None:
    monkeypatch.setattr(engine_process, "LIST_SECONDS", 0.5)
    with pytest.raises(ImportCheckFailed, match="could not list"):
        make().list_files(tree(**{"slow list": ""}))


def test_after_many_files_the_engine_is_replaced(make, tree, monkeypatch) -> None:
    monkeypatch.setattr(engine_process, "MAX_FILES_PER_ENGINE", 2)
    engine = make()
    folder = tree(a="", b="", c="")
    for _ in range(2):
        assert set(engine.parse(folder, ["a.py", "b.py", "c.py"])) == {"a.py", "b.py", "c.py"}
    assert engine.starts == 2


def test_a_result_that_is_not_wanted_any_more_ends_the_engine_s_work(make, tree) -> None:
    engine = make()
    folder = tree(slow="import time; time.sleep(600)", good="")
    with pytest.raises(Unwanted):
        engine.parse(folder, ["slow.py"], lambda: False)
    assert "good.py" in engine.parse(folder, ["good.py"])
    assert engine.starts == 1


def test_closing_kills_the_children_too(make, tree, tmp_path) -> None:
    engine = make()
    folder = tree(
        slow=f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )

    class Stop(BaseException):
        pass

    def stop() -> bool:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise Stop
        return True

    with pytest.raises(Stop):
        engine.parse(folder, ["slow.py"], stop)
    child = Path("/proc", (tmp_path / "pid").read_text())
    eventually("it to be gone", lambda: not child.exists())


def test_without_airflow_it_says_so(make) -> None:
    with pytest.raises(ImportCheckFailed, match="airflow_is_not_here"):
        _ = make(FAKE_AIRFLOW_BROKEN="1").versions
    # The tests' own environment has no Airflow.
    with pytest.raises(AirflowMissing, match="No module named 'airflow"):
        _ = make((sys.executable, "-m", "dagferry_checker.engine")).versions


@pytest.mark.parametrize("command", [("/nonexistent",), ("/bin/true",), ("/bin/echo", "no JSON"), ("/bin/echo", "[]")])
def test_a_command_that_is_no_engine_is_an_error(make, command) -> None:
    with pytest.raises(ImportCheckFailed):
        _ = make(command).versions


def test_an_airflow_that_takes_too_long_to_import_is_named_and_not_said_to_be_tried_again(make, monkeypatch) -> None:
    monkeypatch.setattr(engine_process, "START_SECONDS", 0.2)
    with pytest.raises(ImportCheckFailed, match=r"^Airflow was not imported within 0.2 s\.$") as caught:
        _ = make((sys.executable, "-c", "import time; time.sleep(60)")).versions
    assert "CPU" in caught.value.hint
    assert "tried again" not in caught.value.hint


def test_a_dag_file_sees_neither_the_token_nor_standard_input(make, tree) -> None:
    code = "import os, sys\nDAGS = [name for name in os.environ if name.startswith('DAGFERRY')] + [sys.stdin.read()]"
    engine = make(DAGFERRY_TOKEN="secret", DAGFERRY_TOKEN_FILE="/secret")
    assert engine.parse(tree(look=code), ["look.py"])["look.py"].dags == ("",)


def test_ctrl_c_in_the_terminal_is_for_the_checker(make, tree) -> None:
    engine = make()
    _ = engine.versions
    assert engine._process
    os.kill(engine._process.pid, signal.SIGINT)
    assert engine.parse(tree(good="DAGS = ['x']"), ["good.py"])["good.py"].dags == ("x",)
    assert engine.starts == 1


@pytest.mark.parametrize(
    "result",
    [
        {"dags": [1, "x", None], "errors": "no", "serialize": {}, "asked": [[]]},
        {"dags": {"x": 1}},
        {"dags": ["x"], "asked": ["\ud800"]},
        {},
    ],
)
def test_results_of_another_form_do_no_harm(result) -> None:
    outcome = outcome_of({"name": "a.py", "result": result}, "/w", SETTINGS.limits)
    assert outcome.faults == ()
    assert outcome.dags in {("x",), ()}
