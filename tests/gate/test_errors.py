"""The errors of the gate say what to do."""

from dagferry_core.errors import EXIT_UNAVAILABLE, EXIT_USAGE, SetupError
from dagferry_gate.errors import CheckFailed, RuffMissing


def test_a_missing_ruff_is_an_error_of_the_setup() -> None:
    assert issubclass(RuffMissing, SetupError)
    assert RuffMissing.exit_code == EXIT_USAGE
    assert "pip install" in RuffMissing("x").hint


def test_a_failed_check_can_be_tried_again() -> None:
    assert CheckFailed.exit_code == EXIT_UNAVAILABLE
