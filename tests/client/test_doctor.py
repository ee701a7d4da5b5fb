"""The checks come in their order, end at the first that fails, and judge a clock only as far as a header allows.

What each of them finds is tested through the command, in ``commands/test_doctor.py``.
"""

import socket
from email.utils import formatdate

import pytest

from dagferry_client import doctor
from dagferry_client.doctor import MAX_SKEW_SECONDS, NAMES, Examination
from dagferry_client.settings import Flags, resolve
from dagferry_core.errors import SetupError


def test_settings_that_are_wrong_stop_everything_and_are_the_error() -> None:
    def wrong() -> None:
        raise SetupError("No server was given.", "Give one.")

    examination = Examination(wrong, pytest.fail)
    first, *others = examination.checks()
    assert first == ("settings", "failed", "No server was given.", "Give one.")
    assert [(check.name, check.state) for check in others] == [(name, "skipped") for name in NAMES[1:]]
    assert {check.message for check in others} == {"It needs settings."}
    assert examination.error.message == "No server was given."
    assert examination.target is None


def test_each_check_is_there_as_soon_as_it_is_done(clean_environment, tmp_path, monkeypatch) -> None:
    target = resolve(Flags(server="https://dags.example.com"), {}, tmp_path, lambda *_: "")
    asked = []

    def unknown(*_: object, **__: object) -> None:
        asked.append(True)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(doctor.socket, "getaddrinfo", unknown)
    checks = Examination(lambda: target, pytest.fail).checks()
    assert next(checks).name == "settings"
    assert asked == []
    assert next(checks)[:2] == ("dns", "failed")


def test_only_the_first_addresses_of_a_host_are_shown(clean_environment, tmp_path, monkeypatch) -> None:
    target = resolve(Flags(server="https://dags.example.com:7"), {}, tmp_path, lambda *_: "")
    found = [(0, 0, 0, "", (f"192.0.2.{number}", 7)) for number in (1, 1, 2, 3, 4, 5)]
    monkeypatch.setattr(doctor.socket, "getaddrinfo", lambda *_, **__: found)
    assert doctor._dns(target, "").message == "dags.example.com is 192.0.2.1, 192.0.2.2, 192.0.2.3 and 2 more."


@pytest.mark.parametrize(
    ("began", "ended", "said"),
    [
        (1000, 1000, "differ by less than 5 s"),
        # The header is that of a second that may have been nearly over, or had just begun.
        (1001 + MAX_SKEW_SECONDS, 1010, "differ by less than 5 s"),
        (1002 + MAX_SKEW_SECONDS, 1010, "is 6 s ahead of"),
        (0, 1000 - MAX_SKEW_SECONDS, "differ by less than 5 s"),
        (0, 999 - MAX_SKEW_SECONDS, "is 6 s behind"),
        # The answer came at some moment between the two.
        (0, 5000, "differ by less than 5 s"),
    ],
)
def test_a_clock_is_judged_only_as_far_as_the_header_allows(began, ended, said) -> None:
    headers = {"Date": formatdate(1000, usegmt=True)}
    assert said in doctor._clock(headers, began, ended).message
