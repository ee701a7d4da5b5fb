"""What deploy/ci/import_dags.py does without Airflow; with it: tests/airflow/test_import_dags.py."""

import os
import re
import subprocess
import sys

from deployfiles import HOME

SCRIPT = HOME / "deploy" / "ci" / "import_dags.py"
PAGE = (HOME / "docs" / "how-to" / "test-dags-in-ci.md").read_text()


def run_script(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_without_airflow_it_is_an_error_that_says_so(tmp_path) -> None:
    done = run_script(str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Run this inside Airflow's image" in done.stderr


def test_every_option_is_on_the_page() -> None:
    options = set(re.findall(r"--[a-z]+", run_script("--help").stdout)) - {"--help"}
    assert options == {"--timeout", "--annotate", "--json"}
    for option in options:
        assert re.search(rf"^\| `{option}[` ]", PAGE, re.MULTILINE)


def test_it_is_one_file_that_anybody_can_copy_and_start() -> None:
    imported = set(re.findall(r"^import (\w+)|^from (\w+)", SCRIPT.read_text(), re.MULTILINE))
    names = {one for pair in imported for one in pair if one}
    assert names <= sys.stdlib_module_names
    assert os.access(SCRIPT, os.X_OK)
