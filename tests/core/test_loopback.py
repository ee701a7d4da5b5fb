"""Which addresses only this machine can reach."""

import pytest

from dagferry_core.loopback import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_only_this_machine_reaches_a_loopback_address(host) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "10.0.0.1", "::", "localhost.example.com", "127.0.0.1.nip.io", "LOCALHOST", ""]
)
def test_any_other_address_or_name_may_be_reached_from_elsewhere(host) -> None:
    assert not is_loopback(host)
