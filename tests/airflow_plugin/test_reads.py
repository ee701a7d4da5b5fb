"""What the process of a parse notes of what it reads, in forked processes as Airflow's."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dagferry_airflow.reads import READER, Parse, Spool

HOME = Path(__file__).parents[2]
HEAD = """
import atexit, json, os, sys, time
sys.path[:0] = {folders!r}
from dagferry_airflow import reads
root = {root!r}
manager = os.getpid()
spool = reads.watch(root, lambda: os.getpid() != manager)

def parse(code):
    # As Airflow 3: what is registered after the fork runs at the end.
    if (pid := os.fork()) == 0:
        try:
            try:
                exec(code)
            finally:
                atexit._run_exitfuncs()
        except Exception:
            os._exit(1)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

def swap(target):
    os.symlink(target, root + "/new")
    os.rename(root + "/new", root + "/current")

def say():
    print(json.dumps([
        [p.file, p.well, p.ended is not None, sorted(p.trees), sorted(p.opened), sorted(p.listed), sorted(p.versions)]
        for p in spool.collect()
    ]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for unique, version in (("a" * 16, "v1"), ("b" * 16, "v2")):
        tree = tmp_path / "root/.trees" / unique / version
        (tree / "lib/data").mkdir(parents=True)
        (tree / "dag.py").write_text("print('airflow dag')")
        (tree / "lib/helper.py").write_text("")
        (tree / "conf.yaml").write_text("")
        (tree / "lib/data/a.sql").write_text("")
    (tmp_path / "root/current").symlink_to(f".trees/{'a' * 16}/v1")
    return tmp_path / "root"


def run(root: Path, code: str, **variables: str) -> list[list[object]]:
    """Run code after ``HEAD`` in a process of its own, and return what it said."""
    folders = [str(HOME / package) for package in ("core", "follow", "airflow_plugin")]
    head = HEAD.format(folders=folders, root=str(root))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **variables}
    done = subprocess.run([sys.executable, "-c", head + code], check=False, capture_output=True, text=True,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: list[list[object]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_files_and_folders_are_noted_with_their_tree(root: Path) -> None:
    code = """
parse('''
open(root + "/current/dag.py")
open(root + "/current/conf.yaml", "rb")
open(os.path.realpath(root + "/current") + "/lib/data/a.sql")
os.listdir(root + "/current/lib/data")
list(os.scandir(root + "/current//lib/./data/.."))
open("/etc/passwd")
''')
open(root + "/current/lib/helper.py")  # the manager's own reading is no parse
say()
"""
    tree = "a" * 16 + "/v1"
    opened = ["conf.yaml", "dag.py", "lib/data/a.sql"]
    assert run(root, code) == [["dag.py", True, True, [tree], opened, ["lib", "lib/data"], ["v1"]]]


def test_imports_are_noted_as_modules_and_the_search_for_them_is_no_listing(root: Path) -> None:
    code = """
body = '''
open(root + "/current/dag.py")
sys.path.insert(0, root + "/current")
import lib.helper
'''
parse(body)  # writes the .pyc that the next one reads
parse(body)
say()
"""
    for variables in ({}, {"PYTHONPYCACHEPREFIX": str(root.parent / "cache")}):
        found = run(root, code, **variables)
        assert [(parse[0], parse[4], parse[5]) for parse in found] == [("dag.py", ["dag.py", "lib/helper.py"], [])] * 2


def test_what_several_threads_open_at_the_same_time_is_noted(root: Path) -> None:
    folder = root / ".trees" / ("a" * 16) / "v1/many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number}.yaml").write_text("")
    code = """
parse('''
open(root + "/current/dag.py")
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda number: open(root + f"/current/many/{number}.yaml").close(), range(400)))
''')
say()
"""
    [[_, well, _, _, opened, *_]] = run(root, code)
    assert well
    assert sorted(opened) == ["dag.py", *sorted(f"many/{number}.yaml" for number in range(400))]


def test_a_dag_file_does_not_notice_what_is_not_understood(root: Path) -> None:
    code = """
parse('''
import enum
open(root + "/current/dag.py")

class Hostile(str):
    def __getitem__(self, *_):
        raise RuntimeError("no path")
    startswith = __getitem__

class Named(str, enum.Enum):
    CONF = root + "/current/conf.yaml"

open(Hostile("/etc/passwd"))
open(Named.CONF)
''')
say()
"""
    [[_, well, _, _, opened, *_]] = run(root, code)
    assert well
    assert opened == ["conf.yaml", "dag.py"]


def test_a_parse_whose_noting_failed_is_cut(root: Path) -> None:
    code = """
parse('''
open(root + "/current/dag.py")
reads.os.path.normpath = None
open(root + "/current/conf.yaml")
''')
[found] = spool.collect()
print(json.dumps([found.well, found.cut]))
"""
    assert run(root, code) == [True, True]


@pytest.mark.parametrize(
    "line",
    [
        '["parse", 1, 2.0]', '["parse", "dag.py", "now"]', '["parse", "dag.py", NaN]', '["parse"]', '["end", null, 1]',
        '["open", ["a"], {}]', '["open", "x"]', "[]", "{}", "9", '"open"', '["other", "a", "b"]',
    ],
)  # fmt: skip
def test_a_parse_that_wrote_something_else_is_not_used_and_the_others_are(tmp_path: Path, line: str) -> None:
    spool = Spool(str(tmp_path / "root"))
    well = b'["parse", "dag.py", 2.0]\n["open", "a/v1", "dag.py"]\n["end", 3.0, true]\n'
    for name, noted in (("1-a", well), ("2-b", well + line.encode() + b"\n"), ("3-c", well)):
        (Path(spool.folder) / name).write_bytes(noted)
    assert [parse.file for parse in spool.collect()] == ["dag.py", "dag.py"]
    assert os.listdir(spool.folder) == ["reader"]


def test_half_a_line_and_deep_json_are_no_words(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "root"))
    noted = b'["parse", "dag.py", 2.0]\n["open", "a/v1", "dag.py"]\n' + b"[" * 100_000 + b'\n["open", "a/v1'
    (Path(spool.folder) / "1-a").write_bytes(noted)
    [parse] = spool.collect()
    assert (parse.file, parse.ended, parse.opened) == ("dag.py", None, frozenset({"dag.py"}))


def _make(path: str, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        os.makedirs(f"{path}/in/it")
    elif kind == "deep folder":
        os.mkdir(path)
        fd = os.open(path, os.O_RDONLY)
        for _ in range(2000):
            os.mkdir("d", dir_fd=fd)
            fd, outer = os.open("d", os.O_RDONLY, dir_fd=fd), fd
            os.close(outer)
        os.close(fd)
    elif kind == "link":
        os.symlink("/dev/zero", path)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)


@pytest.mark.parametrize("kind", ["fifo", "folder", "deep folder", "link", "socket"])
def test_what_is_no_file_in_a_spool_is_removed_and_stops_nothing(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket must be short
        spool = Spool(f"{folder}/root", f"{folder}/spool")
        _make(f"{spool.folder}/1-a", kind)
        os.unlink(f"{spool.folder}/{READER}")
        _make(f"{spool.folder}/{READER}", kind)
        (Path(spool.folder) / "2-b").write_bytes(b'["parse", "dag.py", 2.0]\n["open", "a/v1", "dag.py"]\n')
        assert [parse.file for parse in spool.collect()] == ["dag.py"]
        assert os.listdir(spool.folder) == [READER]
        assert os.path.isfile(f"{spool.folder}/{READER}")


def test_an_empty_file_is_left_until_its_parse_has_had_time_to_lock_it(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "root"))
    made = Path(spool.folder) / "1-a"
    made.touch()
    assert spool.collect() == []
    assert made.exists()
    os.utime(made, (1, 1))
    assert spool.collect() == []
    assert not made.exists()


def test_a_spool_that_was_tidied_away_is_there_again(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "root"))
    shutil.rmtree(spool.folder)
    assert spool.collect() == []
    assert os.listdir(spool.folder) == ["reader"]


def test_a_parse_across_a_swap_is_mixed(root: Path) -> None:
    code = """
parse('''
open(root + "/current/dag.py")
swap(".trees/" + "b" * 16 + "/v2")
open(root + "/current/dag.py")
''')
say()
"""
    assert [parse[6] for parse in run(root, code)] == [["v1", "v2"]]


def test_the_end_is_noted_only_of_a_parse_that_came_to_it(root: Path) -> None:
    code = """
parse('open(root + "/current/dag.py"); raise ValueError')
parse('open(root + "/current/conf.yaml"); os._exit(3)')
parse('open(root + "/current/lib/helper.py")')
say()
"""
    assert [parse[:3] for parse in run(root, code)] == [
        ["dag.py", False, True],
        ["conf.yaml", False, False],
        ["lib/helper.py", True, True],
    ]


def test_what_a_dag_file_forks_belongs_to_its_parse(root: Path) -> None:
    code = """
parse('''
open(root + "/current/dag.py")
if (pid := os.fork()) == 0:
    open(root + "/current/conf.yaml")
    os._exit(0)
os.waitpid(pid, 0)
''')
say()
"""
    assert [(parse[0], parse[4]) for parse in run(root, code)] == [("dag.py", ["conf.yaml", "dag.py"])]


def test_what_a_dag_file_leaves_running_keeps_nothing_from_being_collected(root: Path) -> None:
    code = """
has_read, reads_now = os.pipe()
until, lives = os.pipe()  # it ends with this process
parse('''
open(root + "/current/dag.py")
parent = os.getpid()
if os.fork() == 0:
    os.close(lives)
    while os.getppid() == parent:
        time.sleep(0.01)
    open(root + "/current/conf.yaml")
    os.write(reads_now, b"x")
    os.read(until, 1)
    os._exit(0)
''')
os.read(has_read, 1)
say()
"""
    assert [(parse[0], parse[1]) for parse in run(root, code)] == [("dag.py", True)]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Airflow 2 does not run there, and the end has another place")
def test_multiprocessing_notes_the_end_too(root: Path) -> None:
    """As Airflow 2 parses."""
    code = """
import multiprocessing
def body(fails):
    open(root + "/current/dag.py")
    if fails:
        raise ValueError
for fails in (False, True):
    process = multiprocessing.get_context("fork").Process(target=body, args=(fails,))
    process.start()
    process.join()
say()
"""
    assert [parse[:3] for parse in run(root, code)] == [["dag.py", True, True], ["dag.py", False, True]]


@pytest.mark.parametrize(
    "unseen",
    [
        "import subprocess; subprocess.run(['true'])",
        "os.system('true')",
        "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
        "os.listdir(os.open(root + '/current/lib', os.O_RDONLY))",
        "os.open('a.sql', os.O_RDONLY, dir_fd=os.open(root + '/current/lib/data', os.O_RDONLY))",
        "sys.modules['joblib.externals.loky.backend.popen_loky_posix'] = sys",
        *(
            f"import multiprocessing as m; p = m.get_context('{how}').Process(target=print); p.start(); p.join()"
            for how in ("spawn", "forkserver")
        ),
    ],
)
def test_a_parse_that_may_have_read_more_than_is_seen_is_cut(root: Path, unseen: str) -> None:
    code = f"""
parse('open(root + "/current/dag.py")')
parse('''open(root + "/current/dag.py"); {unseen}''')
print(json.dumps([[parse.cut, parse.well] for parse in spool.collect()]))
"""
    assert run(root, code) == [[False, True], [True, True]]


def test_what_is_written_relative_to_a_folder_is_not_read(root: Path) -> None:
    code = """
parse('''
open(root + "/current/dag.py")
os.open("made", os.O_WRONLY | os.O_CREAT, dir_fd=os.open(root, os.O_RDONLY))
os.open(b"/etc/passwd", os.O_RDONLY)
open("/etc/passwd", "rb")
''')
print(json.dumps([parse.cut for parse in spool.collect()]))
"""
    assert run(root, code) == [False]


@pytest.mark.parametrize("room", [0, 10])
def test_a_parse_some_of_whose_lines_were_lost_is_cut(root: Path, room: int) -> None:
    """As on a disk that is full for a moment, with and without ``room`` for half a line."""
    code = f"""
parse('''
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
open(root + "/current/dag.py")
[noted] = [name for name in os.listdir(spool.folder) if name != "reader"]
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(spool.folder + "/" + noted).st_size + {room}, most))
open(root + "/current/conf.yaml")
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
open(root + "/current/lib/helper.py")
''')
print(json.dumps([[p.file, p.well, p.ended is not None, p.cut, sorted(p.opened)] for p in spool.collect()]))
"""
    assert run(root, code) == [["dag.py", True, True, True, ["dag.py", "lib/helper.py"]]]


def test_a_path_that_leads_into_the_root_by_a_link_or_from_beside_it_is_noted(root: Path) -> None:
    code = """
os.symlink(root + "/current", root + "-link")
os.mkdir(root + "-beside")
parse('''
open(root + "/current/dag.py")
open(root + "-link/conf.yaml")
os.chdir(root + "-beside")
open("../root/current/lib/data/a.sql")
open(root + "-beside/none.yaml", "w")
''')
print(json.dumps([sorted(parse.opened) for parse in spool.collect()]))
"""
    assert run(root, code) == [["conf.yaml", "dag.py", "lib/data/a.sql"]]


def test_writing_is_not_reading_and_many_paths_are_cut(root: Path) -> None:
    code = """
reads.MAX_PATHS = 3
parse('''
open(root + "/current/dag.py")
open(root + "/current/made", "w").close()
for name in ("conf.yaml", "lib/helper.py", "lib/data/a.sql"):
    open(root + "/current/" + name)
''')
[found] = spool.collect()
print(json.dumps([[found.cut, sorted(found.opened)]]))
"""
    assert run(root, code) == [[True, ["conf.yaml", "dag.py", "lib/helper.py"]]]


def test_nothing_is_noted_for_a_reader_that_is_gone(root: Path) -> None:
    code = """
os.utime(spool.folder + "/reader", (0, 0))
parse('open(root + "/current/dag.py")')
print(json.dumps(os.listdir(spool.folder)))
"""
    assert run(root, code) == ["reader"]


def test_a_parse_that_goes_on_is_not_collected_and_a_line_that_was_cut_off_is_told(root: Path) -> None:
    spool = Spool(str(root))
    name = f"{spool.folder}/1-abc"
    lock = "import fcntl, sys, time; f = open(sys.argv[1], 'r+b'); fcntl.flock(f, 2); print(flush=True); time.sleep(99)"
    Path(name).write_bytes(b'["parse", "dag.py", 5.0]\n["open", "u/v1", "dag.py"]\n["open", "u/v2", "c')
    with subprocess.Popen([sys.executable, "-c", lock, name], stdout=-1) as process:
        assert process.stdout
        process.stdout.readline()
        assert spool.collect() == []
        process.send_signal(signal.SIGKILL)
    only = frozenset({"dag.py"})
    assert spool.collect() == [Parse("dag.py", 5.0, None, False, frozenset({"u/v1"}), only, frozenset(), cut=True)]
    assert spool.collect() == []
    spool.remove()
    assert not Path(spool.folder).exists()
