"""What a client has, and which codings it can read."""

import pytest

from dagferry_server.http.negotiation import accepts_gzip, has_seen, newest_seen, not_modified


@pytest.mark.parametrize("header", ['"v1"', 'W/"v1"', '"v0", "v1"', '"v0",W/"v1"', "*", " * "])
def test_a_tag_in_the_list_is_seen(header) -> None:
    assert has_seen(header, "v1")


@pytest.mark.parametrize("header", ["", "v1", '"v"', '"v11"', '"v0", "v2"', '"'])
def test_another_tag_is_not(header) -> None:
    assert not has_seen(header, "v1")


@pytest.mark.parametrize(
    ("header", "sequence"),
    [
        ('"20261120T104904Z-000042"', 42),
        ('W/"20261120T104904Z-000042", "20261120T104904Z-000041", "none"', 42),
        ("*", 0),
        ('"none"', 0),
        ('"0123abcd"', 0),
        ("", 0),
    ],
)
def test_the_newest_version_that_a_client_has_is_read_from_its_tags(header, sequence) -> None:
    assert newest_seen(header) == sequence


def test_not_modified_names_what_the_client_has() -> None:
    response = not_modified("v1")
    assert (response.status, response.headers["ETag"], response.body) == (304, '"v1"', None)
    assert response.headers["Cache-Control"] == "no-store, no-transform"


@pytest.mark.parametrize(
    "header",
    ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.5", "*", "identity;q=0.5, *;q=0.1", "x-gzip", "gzip;q=0.001"],
)
def test_a_client_that_names_gzip_gets_it(header) -> None:
    assert accepts_gzip(header)


@pytest.mark.parametrize(
    "header",
    ["", "identity", "br, zstd", "gzip;q=0", "gzip; q=0.000", "gzip;q=0, *", "*;q=0", "gzipped", "deflate;q=0.5"],
)
def test_a_client_that_refuses_it_or_does_not_name_it_does_not(header) -> None:
    assert not accepts_gzip(header)
