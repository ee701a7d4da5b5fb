"""The engine: the process that has Airflow, and forks a child for each file. Started by ``engine_process``.

Its requests are lines of JSON on standard input, its answers lines on standard output::

    < {"ready": true, "airflow": "3.3.2", "python": "3.11.7"}              or {"failed": "…", "missing": true}
    > {"do": "list", "tree": "/w/current", "seconds": 30, "memory": 1073741824}
    > {"do": "parse", "tree": …, "files": ["a.py"], "jobs": 2, "seconds": …, "memory": …, "scratch": …}
    < {"ended": {…}}                                                        one for each file
    < {"done": true, "memory": 123456}

It has no token, no connection, and no descriptor but these two. ``SIGUSR1`` ends the work that is under way.
"""

import functools
import gc
import json
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol

from dagferry_checker.children import Ended, run
from dagferry_checker.limits import Limits, adopt_orphans, die_with_parent, hide_memory, resident_bytes
from dagferry_checker.problems import MAX_ID_CHARACTERS, MAX_NAME_CHARACTERS

MAX_TEXTS = 20
MAX_TEXT_CHARACTERS = 16 * 1024
MAX_IDS = 10_000
MAX_TEXTS_BYTES = 256 * 1024
MAX_IDS_BYTES = 400 * 1024
MAX_NAMES_BYTES = 64 * 1024
"""Of each list, as JSON; together with the texts twice they are less than ``MAX_RESULT_BYTES``."""
LIST = "list"


class Parser(Protocol):
    """What an Airflow can do; see ``AirflowParser``."""

    airflow: str

    def dag_files(self, tree: str) -> list[str]:
        """Return the files that Airflow would parse."""
        ...

    def parse(self, tree: str, path: str) -> Any:
        """Parse one of them: ``dags``, ``errors``, ``serialize``, ``asked``."""
        ...


def serve(make_parser: Callable[[], Parser], requests: IO[bytes], answers: IO[bytes]) -> int:
    """Answer requests until there are no more; return the exit code."""

    def answer(said: dict[str, Any]) -> None:
        answers.write(json.dumps(said).encode() + b"\n")
        answers.flush()

    stopped = [False]

    def stop(*_: object) -> None:
        stopped[0] = True

    signal.signal(signal.SIGUSR1, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    die_with_parent()
    adopt_orphans()
    hide_memory()  # so no DAG file opens the descriptors with which it answers
    try:
        parser = make_parser()
    except Exception as error:  # noqa: BLE001 - Airflow's start may fail in any way
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "airflow"
        answer(
            {"failed": f"{type(error).__name__}: {error}", "missing": missing, "trace": traceback.format_exc()[-4096:]}
        )
        return 1
    gc.collect()
    gc.freeze()  # the children share the memory of what is there; looking for garbage would copy it
    answer({"ready": True, "airflow": parser.airflow, "python": platform.python_version()})
    for line in requests:
        request = json.loads(line)
        stopped[0] = False
        names = [LIST] if request["do"] == LIST else request["files"]
        limits = Limits(request["seconds"], request["memory"])
        run(
            names,
            _work(parser, request["do"], request["tree"]),
            limits=limits,
            jobs=request.get("jobs", 1),
            scratch=request["scratch"],
            ended=functools.partial(_tell, answer, limits),
            stopped=lambda: stopped[0],
        )
        answer({"done": True, "memory": resident_bytes()})
    return 0


def _work(parser: Parser, do: str, tree: str) -> Callable[[str], dict[str, Any]]:
    def list_files(_: str) -> dict[str, Any]:
        return {"files": parser.dag_files(tree)}

    def parse(path: str) -> dict[str, Any]:
        try:
            parsed = parser.parse(tree, path)
        except MemoryError:
            raise
        except BaseException:  # noqa: BLE001 - whatever a DAG file raises
            return {"dags": [], "errors": [traceback.format_exc()[-MAX_TEXT_CHARACTERS:]], "serialize": [], "asked": []}
        return {
            "dags": _first(parsed.dags, MAX_IDS, MAX_ID_CHARACTERS, MAX_IDS_BYTES),
            "errors": _ends(parsed.errors),
            "serialize": _ends(parsed.serialize),
            "asked": _first(parsed.asked, MAX_IDS, MAX_NAME_CHARACTERS, MAX_NAMES_BYTES),
        }

    return list_files if do == LIST else parse


def _ends(texts: list[str]) -> list[str]:
    return _first([text[-MAX_TEXT_CHARACTERS:] for text in texts], MAX_TEXTS, MAX_TEXT_CHARACTERS, MAX_TEXTS_BYTES)


def _first(texts: Sequence[str], count: int, characters: int, size: int) -> list[str]:
    """Return the first ``count`` texts, each cut, as many as are at most ``size`` bytes of JSON."""
    kept = []
    for text in texts[:count]:
        size -= len(json.dumps(text[:characters])) + len(", ")
        if size < 0:
            break
        kept.append(text[:characters])
    return kept


def _tell(answer: Callable[[dict[str, Any]], None], limits: Limits, ended: Ended) -> None:
    # A child whose native code got no memory often crashes.
    starved = bool(ended.signal) and ended.peak > limits.memory // 2
    answer({"ended": {**ended._asdict(), "starved": starved, "seconds": round(ended.seconds, 3)}})


def main(arguments: list[str]) -> int:
    """Serve on standard input and output; what Airflow prints goes nowhere."""
    from dagferry_checker.airflow_parser import AirflowParser  # noqa: PLC0415 - tests have another parser

    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    # A DAG file must not import from the current folder, nor what is beside this file.
    sys.path[:] = [path for path in sys.path if path not in {"", os.getcwd(), os.path.dirname(__file__)}]
    return serve(lambda: AirflowParser(arguments[0]), requests, answers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
