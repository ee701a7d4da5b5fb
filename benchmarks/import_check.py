"""What an import check costs: all DAG files at first, then one that changed, in a real Airflow.

Needs the environments that ``tests/airflow/make_environments`` makes; without one there is no row.
"""

import json
import os
import subprocess
from pathlib import Path

from measure import Row, row

HOME = Path(__file__).resolve().parents[1]
ENVIRONMENTS = Path(os.environ.get("AIRFLOW_ENVIRONMENTS", HOME))
FILES = 100
MAX_SECONDS = 600

PROGRAM = """
import json, os, resource, sys, tempfile, time
from dagferry_checker.checking import Checking
from dagferry_checker.engine_process import Engine, Settings
from dagferry_checker.limits import Limits
from dagferry_checker.trees import TreeStore
from dagferry_core.bundle.manifest import Entry, Manifest
import hashlib

files, jobs = int(sys.argv[1]), int(sys.argv[2])
head = "from airflow import DAG\\n" + sys.argv[3] + "\\nimport datetime, json\\n"
body = "with DAG('dag_{}', start_date=datetime.datetime(2026, 1, 1), schedule=None):\\n"
body += "".join(f"    BashOperator(task_id='t{n}', bash_command='echo {{}}')\\n" for n in range(10))

def tree(old=None, changed=0):
    texts = {f"d{n:03}.py": (head + body.format(n, *[changed if n == 7 else 0] * 10)).encode() for n in range(files)}
    entries = [Entry(path, len(text), 0o644, hashlib.sha256(text).hexdigest()) for path, text in texts.items()]
    manifest = Manifest(entries)
    return store.make(manifest, ((entry, [texts[path]]) for path, entry in manifest.files.items()), old)

def timed(made):
    began = time.perf_counter()
    report = checking.check(made)
    assert not report.problems, report.problems[0]
    checking.make_live(made.manifest.digest)
    return time.perf_counter() - began

with tempfile.TemporaryDirectory() as folder:
    store = TreeStore(folder)
    engine = Engine(Settings(jobs, Limits(30.0, 1 << 30), "stub"), store.scratch, os.environ)
    began = time.perf_counter()
    _ = engine.versions
    start = time.perf_counter() - began
    checking = Checking(engine, store)
    live = tree()
    every = timed(live)
    ones = []
    for number in range(1, 6):
        live = tree(live, number)
        ones.append(timed(live))
    with open(f"/proc/{engine._process.pid}/status") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    engine.close()
    store.close()
print(json.dumps([start, every, sorted(ones)[2], resident // 1024]))
"""
_BASH = {
    3: "from airflow.providers.standard.operators.bash import BashOperator",
    2: "from airflow.operators.bash import BashOperator",
}


@row
def import_check() -> list[Row]:
    """The start of the engine, all files of a tree, one changed file, and the memory of the engine."""
    rows: list[Row] = []
    for major, line in _BASH.items():
        environment = ENVIRONMENTS / f".venv-airflow-{major}"
        if not (environment / "plugin").exists():
            continue
        packages = [*(str(HOME / name) for name in ("core", "follow", "runtime", "checker")), environment / "plugin"]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages))}
        done = subprocess.run(
            [environment / "bin/python", "-c", PROGRAM, str(FILES), "2", line],
            env=variables, capture_output=True, text=True, timeout=MAX_SECONDS, check=True,
        )  # fmt: skip
        start, every, one, resident = json.loads(done.stdout)
        rows += [
            (f"import check, Airflow {major}: start of the engine", "report", f"{start:.1f} s, {resident} MB"),
            (f"import check, Airflow {major}: all {FILES} DAG files, two at a time", "report", f"{every:.1f} s"),
            (f"import check, Airflow {major}: one changed DAG file of {FILES}", "report", f"{one * 1000:.0f} ms"),
        ]
    return rows
