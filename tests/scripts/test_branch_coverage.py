"""Each module of the packages that are measured has a floor and a test file of its own; ``make coverage`` measures."""

import branch_coverage
import pytest
from mirror import HOME, own_tests

FLOORS = branch_coverage.floors()


def test_each_module_has_a_floor_and_no_other_has() -> None:
    assert list(FLOORS) == branch_coverage.measured()


@pytest.mark.parametrize("module", FLOORS)
def test_a_module_with_a_floor_has_a_test_file_of_its_own(module: str) -> None:
    assert (HOME / own_tests(module)).is_file()
    assert 0 < FLOORS[module] <= 100


def test_the_own_test_file_is_found_by_name_alone() -> None:
    assert own_tests("core/dagferry_core/names.py") == "tests/core/test_names.py"
    assert own_tests("follow/dagferry_follow/volume/tree.py") == "tests/follow/volume/test_tree.py"
    assert own_tests("airflow_plugin/dagferry_airflow/pin.py") == "tests/airflow_plugin/test_pin.py"
