"""The answers that the gate's own reading of ``.airflowignore`` is held against are those of real Airflow."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from airflowignores import ANSWERS, CASES, answers, content
from airflows import environment_of

pytestmark = pytest.mark.airflow

CODE = """
import json, os, sys
try:
    from airflow._shared.module_loading.file_discovery import find_path_from_directory
except ImportError:
    from airflow.utils.file import find_path_from_directory
root, syntax = sys.argv[1:]
found = {}
for name in sorted(os.listdir(root)):
    folder = os.path.join(root, name)
    try:
        paths = find_path_from_directory(folder, ".airflowignore", syntax)
        found[name] = sorted(os.path.relpath(path, folder) for path in paths)
    except Exception as error:
        found[name] = type(error).__name__
print(json.dumps(found))
"""


def ask(folder: Path, major: int, syntax: str) -> dict[str, list[str] | str]:
    for number, files in enumerate(CASES.values()):
        for path, text in files.items():
            file = folder / f"{number:03}" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content(text))
    variables = {"AIRFLOW_HOME": str(folder.parent / "home"), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    python = environment_of(major) / "bin/python"
    ran = subprocess.run(
        [python, "-c", CODE, folder, syntax], env=variables, capture_output=True, text=True, check=True
    )
    return dict(zip(CASES, json.loads(ran.stdout.splitlines()[-1]).values(), strict=True))


def test_airflow_still_answers_so(tmp_path) -> None:
    asked = {
        f"{major} {syntax}": ask(tmp_path / f"{major}{syntax}", major, syntax)
        for major, syntax in ((2, "regexp"), (2, "glob"), (3, "glob"), (3, "regexp"))
    }
    found = {name: {which: answer[name] for which, answer in asked.items()} for name in CASES}
    if os.environ.get("DAGFERRY_RECORD"):
        ANSWERS.write_text(json.dumps(found, indent=0, ensure_ascii=False, sort_keys=True) + "\n")
    assert found == answers()
