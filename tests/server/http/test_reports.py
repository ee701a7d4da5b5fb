"""What a sidecar reports in the headers of its requests."""

from urllib.parse import quote

import pytest

from dagferry_core.protocol import MAX_ERROR_CHARACTERS
from dagferry_server.fleet.sidecars import Report
from dagferry_server.http.reports import MAX_ID_CHARACTERS, MAX_IN_USE, MAX_NAME_CHARACTERS, report_of


def test_a_report_is_read_from_the_headers() -> None:
    headers = {
        "Dagferry-Instance": "pod-0",
        "Dagferry-Component": "worker",
        "Dagferry-Live": "v1",
        "Dagferry-Error": quote("volume_failed: größer"),
        "Dagferry-Deregister": "1",
        "Dagferry-Volume": "0123",
        "Dagferry-Log": "abc",
        "Dagferry-In-Use": "2",
    }
    assert report_of(headers) == Report("pod-0", "worker", "v1", "volume_failed: größer", True, "0123", "abc", 2)


@pytest.mark.parametrize(
    ("text", "number"), [("", 0), ("7", 7), ("-7", 0), ("1e9", 0), ("٣", 0), ("007", 7), ("9" * 5000, MAX_IN_USE)]
)
def test_the_number_of_trees_in_use_is_a_small_one_whatever_is_sent(text, number) -> None:
    found = report_of({"Dagferry-Instance": "pod-0", "Dagferry-In-Use": text})
    assert found is not None
    assert found.in_use == number


def test_a_report_of_an_older_sidecar_has_no_volume() -> None:
    assert report_of({"Dagferry-Instance": "pod-0"}) == Report(
        "pod-0", "", "", "", deregister=False, volume="", log_id=""
    )


@pytest.mark.parametrize(("once", "counts"), [("1", False), ("0", True), ("", True)])
def test_who_runs_once_is_nobody(once, counts) -> None:
    assert (report_of({"Dagferry-Instance": "pod-0", "Dagferry-Once": once}) is not None) == counts


def test_credentials_of_a_pod_speak_for_no_other() -> None:
    found = report_of({"Dagferry-Instance": "worker-1"}, "worker-0")
    assert found is not None
    assert found.instance == "worker-0"
    assert report_of({"Dagferry-Live": "v1"}, "worker-0") is None, "somebody in that pod who reports nothing"


def test_who_does_not_say_who_they_are_is_nobody() -> None:
    assert report_of({"Dagferry-Live": "v1"}) is None


def test_what_is_too_long_is_truncated_and_what_a_terminal_would_obey_is_replaced() -> None:
    long = {"Dagferry-Instance": "x" * 5000, "Dagferry-Error": quote("\x1b[2J\n" + "y" * 5000)}
    found = report_of({**long, "Dagferry-Volume": "f" * 5000, "Dagferry-Log": "f" * 5000})
    assert found is not None
    assert len(found.instance) == MAX_NAME_CHARACTERS
    assert len(found.error) == MAX_ERROR_CHARACTERS
    assert len(found.volume) == len(found.log_id) == MAX_ID_CHARACTERS
    assert found.error.startswith("?[2J?y")
    odd = report_of({"Dagferry-Instance": "a\tb\udce9\ud800é\ue000"})
    assert odd is not None
    assert odd.instance == "a?b??é\ue000"
