"""The docs name every setting, metric, error and endpoint there is, and no other."""

import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[2]


def test_the_tables_in_the_docs_are_those_of_the_code() -> None:
    checked = subprocess.run(
        [sys.executable, HOME / "scripts" / "reference.py", "--check"], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
