"""What the audit hook of the plugin costs: CPU seconds of importing Airflow with it and without, and of one parse.

Run with the Python of an environment that has Airflow, and this project on its path::

    PYTHONPATH=core:follow:airflow_plugin .venv-airflow-3/bin/python benchmarks/audit_hook.py

Prints the least of several runs each: other processes only make a run take longer.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 7

IMPORT = """
import os, resource, sys
if sys.argv[2] == "hook":
    from dagferry_airflow import reads
    reads.watch(sys.argv[1], lambda: False)
before = resource.getrusage(resource.RUSAGE_SELF)
import airflow.models.dag, airflow.models.dagbag, airflow.models.taskinstance, airflow.jobs.job
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""
PARSE = """
import resource, sys
root, kind = sys.argv[1:3]
if kind == "hook":
    from dagferry_airflow import reads
    reads.watch(root, lambda: True)
sys.path.insert(0, f"{root}/current")
before = resource.getrusage(resource.RUSAGE_SELF)
exec(compile(open(f"{root}/current/dag.py").read(), "dag.py", "exec"))
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""
FILES = 100


def least(code: str, root: str, kind: str) -> float:
    """Return the least CPU seconds of several runs of ``code``, with ``kind`` ``hook`` or ``none``."""

    def run() -> float:
        command = [sys.executable, "-c", code, root, kind]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])

    return min(run() for _ in range(RUNS))


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, ".trees/0123456789abcdef/v1")
        tree.mkdir(parents=True)
        for number in range(FILES):
            (tree / f"helper{number}.py").write_text("RATE = 1\n")
            (tree / f"conf{number}.yaml").write_text("rate: 1\n")
        (tree / "dag.py").write_text(
            f"for number in range({FILES}):\n"
            "    __import__(f'helper{number}')\n"
            f"    open(f'{folder}/current/conf{{number}}.yaml').read()\n"
        )
        Path(folder, "current").symlink_to(".trees/0123456789abcdef/v1")
        for name, code in (("importing Airflow", IMPORT), (f"a parse that opens {2 * FILES + 1} files", PARSE)):
            without, with_hook = (least(code, folder, kind) for kind in ("none", "hook"))
            sys.stdout.write(f"{name}: {without:.3f} s of CPU without the hook, {with_hook:.3f} s with it\n")


if __name__ == "__main__":
    main()
