"""Each module of the packages that are measured has a floor and a test file of its own; ``make coverage`` measures."""

import branch_coverage
import pytest
from mirror import HOME, own_test, own_tests

FLOORS = branch_coverage.floors()


def test_each_module_has_a_floor_and_no_other_has() -> None:
    assert list(FLOORS) == branch_coverage.measured()


@pytest.mark.parametrize("module", FLOORS)
def test_a_module_with_a_floor_has_a_test_file_of_its_own(module: str) -> None:
    assert (HOME / own_test(module)).is_file()
    assert 0 < FLOORS[module] <= 100


def test_the_own_test_file_is_found_by_name_alone() -> None:
    assert own_test("core/dagferry_core/names.py") == "tests/core/test_names.py"
    assert own_test("follow/dagferry_follow/volume/tree.py") == "tests/follow/volume/test_tree.py"
    assert own_test("airflow_plugin/dagferry_airflow/pin.py") == "tests/airflow_plugin/test_pin.py"


def test_a_long_test_file_has_parts_that_are_not_another_module_s() -> None:
    folder = "tests/core/source"
    assert own_tests("core/dagferry_core/source/graph.py") == [
        f"{folder}/test_graph.py",
        f"{folder}/test_graph_data.py",
    ]
    assert (HOME / "tests/core/archive/test_tar_header.py").is_file()
    assert own_tests("core/dagferry_core/archive/tar.py") == ["tests/core/archive/test_tar.py"]


@pytest.mark.slow
def test_a_module_below_its_floor_is_named_and_fails(monkeypatch, capsys) -> None:
    module = "follow/dagferry_follow/pauses.py"
    assert branch_coverage.main([module]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"   100.0    100  {module}"]
    monkeypatch.setattr(branch_coverage, "floors", lambda: {module: 101})
    assert branch_coverage.main([module]) == 1
    assert f"{module}  BELOW ITS FLOOR" in capsys.readouterr().out
