"""Names in paths and URLs: what may be one."""

import pytest

from dagferry_core.names import check_deployment, is_digest, make_version, version_sequence, version_time


@pytest.mark.parametrize("name", ["a", "prod", "team-1", "0", "a" * 63])
def test_a_deployment_is_named_like_a_dns_label(name: str) -> None:
    assert check_deployment(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "..", "a" * 64, "ä", "a\n"])
def test_anything_else_names_no_deployment(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid deployment name"):
        check_deployment(name)


def test_a_version_carries_time_and_sequence() -> None:
    assert make_version(1795157101, 42) == "20261120T064501Z-000042"
    assert version_sequence("20261120T064501Z-000042") == 42
    assert version_sequence(make_version(0, 10**12 - 1)) == 10**12 - 1
    assert version_time("20261120T064501Z-000042") == 1795157101
    assert version_time(make_version(0, 10**12 - 1)) == 0


@pytest.mark.parametrize("text", ["", "latest", "../x", "20261120T064501Z-42", "20261120T064501Z-000042\n", "seed"])
def test_anything_else_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid version"):
        version_sequence(text)
    with pytest.raises(ValueError, match="not a valid version"):
        version_time(text)


def test_digits_that_are_no_time_are_no_time() -> None:
    with pytest.raises(ValueError, match="does not match"):
        version_time("20261320T064501Z-000042")


def test_a_digest_is_sha256_in_lower_case_hex() -> None:
    assert is_digest("sha256:" + "0a" * 32)
    assert not is_digest("sha256:" + "0A" * 32)
    assert not is_digest(None)
