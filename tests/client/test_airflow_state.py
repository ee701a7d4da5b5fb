"""What Airflow reports is read with what a server leaves out, and a reporter without a version is behind."""

import pytest

from dagferry_client.airflow_state import ImportCheck, Leases, Parsed, behind
from dagferry_client.decode import decode
from dagferry_core.errors import FormatError
from recorded_answers import VERSION, import_check, logged, parsed, reporter

REQUIRED = set(list(Parsed._fields)[:9])


@pytest.mark.parametrize("name", Parsed._fields)
def test_what_a_server_must_say_and_what_it_may_leave_out(name) -> None:
    less = {key: value for key, value in parsed().items() if key != name}
    if name in REQUIRED:
        with pytest.raises(FormatError, match=f"{name} is missing"):
            decode(Parsed, less)
    else:
        assert decode(Parsed, less).version == VERSION


def test_what_the_contract_has_is_read_and_written_unchanged() -> None:
    assert set(parsed()) == set(Parsed._fields)
    assert set(import_check()) == set(ImportCheck._fields)
    assert decode(Leases, {"versions": {VERSION: ["a"]}, "holders": 1}).versions[VERSION] == ["a"]


def test_who_is_behind_is_decided_by_the_sequence() -> None:
    reporters = [
        reporter("a"),
        reporter("b", version=logged(41)["version"]),
        reporter("c", version=logged(43)["version"]),
        reporter("d", version=""),
        reporter("bundle", version="", state="unknown"),
        reporter("e", version="20271120T064501Z-1000000"),
    ]
    found = decode(Parsed, parsed(reporters=reporters))
    assert [one.instance for one in behind(found, 42)] == ["b", "d"]
