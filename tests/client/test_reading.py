"""Which rules the DAG files are checked by comes from options, and versions that nobody knows are refused."""

import pytest

from dagferry_client.local.errors import IncludeInvalid
from dagferry_client.local.folder import find_dags_folder
from dagferry_client.reading import read_folder, rules_of
from dagferry_core.errors import SetupError
from dagferry_gate.rules import NEWEST_PYTHON, Rules
from localtrees import write


def test_without_a_version_everything_is_accepted_that_any_version_reads() -> None:
    assert rules_of(None, None) == Rules(NEWEST_PYTHON, None)


def test_versions_are_those_of_airflow() -> None:
    assert rules_of("3.9", "2") == Rules("3.9", "2")
    assert rules_of("3.13", "3") == Rules("3.13", "3")


@pytest.mark.parametrize(("python", "airflow"), [("3", None), ("3.7", None), ("2.7", None), (None, "1"), (None, "3.0")])
def test_other_versions_are_refused(python, airflow) -> None:
    with pytest.raises(SetupError, match="airflow"):
        rules_of(python, airflow)


def test_a_folder_is_read_with_what_is_included(tmp_path, clean_environment) -> None:
    write(tmp_path, {"dags/a.py": b"a", "include/x.sql": b"x"})
    folder = find_dags_folder(str(tmp_path))
    tree = read_folder(folder, [f"include={tmp_path}/include"])
    assert list(tree.manifest.files) == ["a.py", "include/x.sql"]
    with pytest.raises(IncludeInvalid):
        read_folder(folder, ["include"])
