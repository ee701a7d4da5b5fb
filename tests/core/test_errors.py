"""The table of errors: every error has its own code, and statuses that real clients of the protocol take as meant."""

from pathlib import Path

from dagferry_core.errors import DagferryError, FormatError, SetupError, with_subclasses
from errortable import ALL_ERRORS


def test_every_code_is_there_once() -> None:
    codes = [error.code for error in ALL_ERRORS]
    assert len(codes) == len(set(codes))


def test_every_error_is_in_the_docs() -> None:
    pages = [path.read_text() for path in (Path(__file__).parents[2] / "docs").rglob("errors.md")]
    for error in ALL_ERRORS:
        assert any(f"| `{error.code}` |" in page for page in pages), error


def test_a_format_error_is_for_those_who_know_where_the_bytes_came_from_and_not_for_people() -> None:
    assert not issubclass(FormatError, DagferryError)
    assert issubclass(FormatError, ValueError)


def test_every_error_says_what_it_is_and_what_to_do_next() -> None:
    for error in ALL_ERRORS:
        assert error.__doc__, error
        assert error.default_hint.endswith((".", "dags", "deploys", "URL")), error
        assert error.exit_code != 0


def test_every_error_is_of_one_family() -> None:
    families = {error.__name__ for error in DagferryError.__subclasses__()}
    expected = {"ArchiveError", "BundleError", "RequestError", "ServerError", "SyncError", "ClientError", "SetupError"}
    expected |= {"LocalError", "CheckFailed"}
    assert families == expected


def test_an_error_carries_its_message_and_its_hint() -> None:
    assert SetupError("x is cut.", "Do y.").as_dict() == {
        "code": "setting_invalid",
        "message": "x is cut.",
        "hint": "Do y.",
    }
    assert SetupError("x is cut.").hint == SetupError.default_hint


def test_a_family_is_its_root_and_all_below_in_the_order_of_their_definition() -> None:
    found = [error.__name__ for error in with_subclasses(SetupError)]
    assert found[:2] == ["SetupError", "ExtraMissing"]
    assert sorted(found[2:]) == ["AirflowMissing", "RuffMissing"]
