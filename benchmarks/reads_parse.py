"""Parses each DAG file of a checkout as Airflow does, in a child of its own; prints what Python's audit events show.

Run by the Python of Airflow 2.10 or later: ``reads_parse.py TREE FOLDER [FOLDER ON SYS.PATH ...]``. For ``reads.py``,
which runs it under strace and compares. A line of JSON for each DAG file: its path, the process that parsed it, what
that opened and listed, whether it started programs, errors, and how many DAGs there are.

Modules that are not installed, variables, connections and the environment are replaced by stubs, so that DAG files get
as far as they can.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import tempfile
import types
import warnings
from pathlib import Path

TREE = os.path.realpath(sys.argv[1])
FOLDER = os.path.realpath(os.path.join(TREE, sys.argv[2]))
MAX_SECONDS = 60

os.environ.update(
    AIRFLOW_HOME=tempfile.mkdtemp(),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=FOLDER,
    AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
)
warnings.simplefilter("ignore")

from airflow.models import Connection, Variable  # noqa: E402

try:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import BaseHook, BaseOperator
    from airflow.sdk import Variable as SdkVariable
except ImportError:  # Airflow 2
    from airflow.hooks.base import BaseHook
    from airflow.models import BaseOperator, DagBag

    SdkVariable = Variable


class Text(str):
    """A text that has items, as decoded JSON has."""

    __slots__ = ()

    def __getitem__(self, key):
        return Text("stub")

    def get(self, key, default=None):
        return Text("stub") if default is None else default


class Settings(dict):
    """Decoded JSON that has whatever is asked for."""

    def __missing__(self, key):
        return Text("stub")


def _variable(key, default_var=None, default=None, deserialize_json=False, **_):
    for given in (default_var, default):
        if given is not None and type(given) is not object:
            return given
    return Settings() if deserialize_json else "stub"


class _Class(type):
    def __iter__(cls):
        return iter(())

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub


class Stub(metaclass=_Class):
    """Anything of a module that is not installed."""

    template_fields = ()

    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        return Stub()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub

    def __getitem__(self, key):
        return Stub()

    def __iter__(self):
        return iter(())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def __rshift__(self, other):
        return other

    def __lshift__(self, other):
        return other


class StubOperator(BaseOperator):
    """An operator of a provider that is not installed; its templates are not known."""

    template_fields = ()

    def __init__(self, **arguments):
        kept = {name: arguments[name] for name in ("task_id", "dag", "task_group") if name in arguments}
        super().__init__(**{"task_id": f"stub-{id(self)}", **kept})

    @classmethod
    def partial(cls, **_):
        return Stub()


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nothing else finds, for the files of the tree."""

    def __init__(self, own):
        self._own = own
        self._made = set()

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if (top in self._own and top != "airflow") or name == "airflow" or name.startswith("airflow.sdk"):
            return None
        if name.rpartition(".")[0] not in self._made:
            frame = sys._getframe(1)
            while frame and "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            if not frame or not frame.f_code.co_filename.startswith(TREE):
                return None
        self._made.add(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)

        def of(name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (StubOperator if name.endswith(("Operator", "Sensor")) else Stub,), {})

        module.__getattr__ = of
        return module

    def exec_module(self, module):
        pass


def _environment(self, key, real=type(os.environ).__getitem__):
    try:
        return real(self, key)
    except KeyError:
        if sys._getframe(1).f_code.co_filename.startswith(TREE):
            return "1"
        raise


def _stub():
    folders = [FOLDER, *(os.path.join(TREE, folder) for folder in sys.argv[3:])]
    sys.path[:0] = folders
    own = {name.partition(".")[0] for folder in [*folders, TREE] for name in os.listdir(folder)}
    sys.meta_path.append(Stubs(own))
    Variable.get = SdkVariable.get = staticmethod(_variable)
    BaseHook.get_connection = classmethod(lambda _, name: Connection(conn_id=name, host="h", login="l", port=1))
    Connection.extra_dejson = property(lambda _: Settings())
    type(os.environ).__getitem__ = _environment


# --- what a parse does -----------------------------------------------------------------------------------------------

opened: set[str] = set()
listed: set[str] = set()
started: set[str] = set()
STARTS = ("os.fork", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen")


def _watch(event, arguments):
    if event == "open":
        _add(opened, arguments[0])
    elif event in ("os.listdir", "os.scandir"):
        frame = sys._getframe(1)
        if "importlib" not in frame.f_code.co_filename:  # the folders of sys.path, for an import
            _add(listed, "." if arguments[0] is None else arguments[0])
    elif event.startswith(STARTS):
        started.add(event)


def _add(paths, path):
    if isinstance(path, (str, bytes, os.PathLike)):
        real = os.path.realpath(os.fsdecode(path))
        if real == TREE or real.startswith(TREE + "/"):
            folder, _, name = real[len(TREE) + 1 :].rpartition("/")
            if folder.endswith("__pycache__"):
                folder, name = folder[: -len("__pycache__")].rstrip("/"), name.split(".")[0] + ".py"
            paths.add(f"{folder}/{name}" if folder else name)


def parse(path):
    signal.alarm(MAX_SECONDS)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.addaudithook(_watch)
    try:
        bag = DagBag(dag_folder=path, safe_mode=False)
        dags, errors = len(bag.dags), list(bag.import_errors.values())
    except BaseException as error:  # noqa: BLE001 - whatever a DAG file raises
        dags, errors = 0, [repr(error)]
    return {
        "file": os.path.relpath(path, TREE),
        "process": os.getpid(),
        "opened": sorted(opened),
        "listed": sorted(listed),
        "started": sorted(started),
        "errors": [error[-300:] for error in errors],
        "dags": dags,
    }


def main():
    _stub()
    for path in sorted(Path(FOLDER).rglob("*.py")):
        text = path.read_bytes().lower()
        if b"dag" not in text or b"airflow" not in text or "__pycache__" in path.parts:
            continue
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, (json.dumps(parse(str(path))) + "\n").encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as answer:
            line = answer.read()
        os.waitpid(child, 0)
        died = {"file": os.path.relpath(path, TREE), "process": child, "opened": [], "listed": [], "dags": 0}
        print(line.strip() or json.dumps({**died, "started": [], "errors": ["it died"]}), flush=True)


if __name__ == "__main__":
    main()
