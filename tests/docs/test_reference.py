"""The docs name every setting, metric, error and endpoint there is, and no other."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dagferry_server.http.models import CurrentAnswer, UploadAnswer

HOME = Path(__file__).parents[2]


def test_the_tables_in_the_docs_are_those_of_the_code() -> None:
    checked = subprocess.run(
        [sys.executable, HOME / "scripts" / "reference.py", "--check"], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_errors_that_only_a_command_meets_have_no_http_status() -> None:
    rows = [line.split(" | ") for line in (HOME / "docs" / "reference" / "errors.md").read_text().splitlines()]
    statuses = {row[0].strip("| `"): row[1] for row in rows if row[0].startswith("| `")}
    assert {statuses[code] for code in ("setting_invalid", "root_in_use", "store_in_use")} == {""}
    assert statuses["store_unavailable"] == "503"


@pytest.mark.parametrize(("first", "answer"), [("version", UploadAnswer), ("log_id", CurrentAnswer)])
def test_the_answers_that_are_shown_have_every_field(first, answer) -> None:
    text = (HOME / "docs" / "reference" / "protocol.md").read_text()
    shown = re.search(rf'^    {{"{first}".*?}}$', text, re.DOTALL | re.MULTILINE)
    assert json.loads(shown[0]).keys() == answer.model_fields.keys()
