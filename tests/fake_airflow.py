"""The engine of the checker without Airflow: files are executed, and ``DAGS`` in them names their DAGs.

``COMMAND`` starts it in the place of ``python -m dagferry_checker.engine``.
"""

import os
import runpy
import sys
import traceback
from typing import Any, NamedTuple

from dagferry_checker.engine import serve

COMMAND = (sys.executable, __file__)


class Parsed(NamedTuple):
    dags: list[str]
    errors: list[str]
    serialize: list[str]
    asked: list[str]


class FakeParser:
    """Finds all ``.py``; a file that has ``slow list`` in its name makes the listing hang."""

    airflow = "9.9.9"

    def dag_files(self, tree: str) -> list[str]:
        found = [
            os.path.relpath(os.path.join(parent, name), tree)
            for parent, _, names in os.walk(tree, followlinks=True)
            for name in names
            if name.endswith(".py")
        ]
        while any("slow list" in path for path in found):
            pass
        return found

    def parse(self, tree: str, path: str) -> Any:
        sys.path.append(tree)
        try:
            module = runpy.run_path(f"{tree}/{path}")
        except Exception:  # noqa: BLE001 - whatever a DAG file raises
            return Parsed([], [traceback.format_exc()], [], [])
        return Parsed(list(module.get("DAGS", [])), [], [], list(module.get("ASKED", [])))


def main() -> int:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if "FAKE_AIRFLOW_BROKEN" in os.environ:
        return serve(_broken, requests, answers)
    return serve(FakeParser, requests, answers)


def _broken() -> Any:
    import airflow_is_not_here  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
