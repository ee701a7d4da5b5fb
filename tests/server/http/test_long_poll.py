"""For how long a request may wait."""

import pytest

from dagferry_server.http.long_poll import MAX_WAIT_SECONDS, wait_seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("wait=30", 30), ("wait=0", 0), ("respond-async, wait=7", 7), ("WAIT = 7", 7), ('wait="7"', 7), ("wait=7; a=b", 7),
     ("wait=51", MAX_WAIT_SECONDS), ("wait=999999", MAX_WAIT_SECONDS)],
)  # fmt: skip
def test_a_preferred_wait_is_taken_up_to_50_s(header, seconds) -> None:
    assert wait_seconds(header) == seconds


@pytest.mark.parametrize(
    "header", ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "await=5", "wait=5s", "wait=" + "9" * 20]
)
def test_what_is_no_wait_is_ignored(header) -> None:
    assert wait_seconds(header) == 0
