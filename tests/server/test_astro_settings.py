"""``--astro-cli`` takes no path of another endpoint, and ``--public-url`` only a plain URL."""

import pytest

from dagferry_server.astro_settings import MAX_PATH_CHARACTERS, MAX_URL_CHARACTERS, astro_path, public_url
from dagferry_server.http.routes import ROUTES


@pytest.mark.parametrize(
    "path", ["/astro", "/a", "/v1/astro", "/x/dagster", "/Astro_2.0~b", "/prod", "/prod/astro/dags"]
)
def test_a_plain_path_is_taken_as_it_is(path: str) -> None:
    assert astro_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "astro", "//astro", "/astro/", "/astro//x", "/a b", "/astro?x", "/astro#x", "/%61stro", "/ästro", "/-",
        "/-/astro", "/.", "/..", "/x/..", "/x/../y", "/{name}", "/astro\n", "/a\\b", "/" + "a" * MAX_PATH_CHARACTERS,
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_not_a_plain_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="a path such as /astro is expected"):
        astro_path(path)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_the_path_of_no_endpoint_is_taken_nor_one_whose_token_page_would_be_it(route) -> None:
    path = route.path.replace("{deployment}", "prod").replace("{name}", "token").replace("{version}", "token")
    for taken in (path.replace("{path}", "token"), path.replace("{path}", "a/token")):
        for tried in (taken, taken.removesuffix("/token")):
            with pytest.raises(ValueError, match=r"belongs to other endpoints|a path such as /astro is expected"):
                astro_path(tried)


def test_all_paths_of_deployments_are_left_to_them_also_future_ones() -> None:
    for path in ("/prod/dags", "/prod/dags/new", "/prod/dags/new/token", "/astro/dags/upload"):
        with pytest.raises(ValueError, match="belongs to other endpoints"):
            astro_path(path)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https://dags.example.com", "https://dags.example.com"),
        ("https://dags.example.com/", "https://dags.example.com"),
        ("http://dags:8000/dagferry/", "http://dags:8000/dagferry"),
        ("https://example.com/a/b_c", "https://example.com/a/b_c"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x"),
        ("https://dag_ferry.internal", "https://dag_ferry.internal"),
    ],
)
def test_a_public_url_has_no_slash_at_its_end(url: str, read: str) -> None:
    assert public_url(url) == read


@pytest.mark.parametrize(
    "url",
    [
        "", "dags.example.com", "ftp://dags.example.com", "//dags.example.com", "https://", "https:///x",
        "https://user@dags.example.com", "https://user:secret@dags.example.com", "https://dags.example.com?x=1",
        "https://dags.example.com/?", "https://dags.example.com#x", "https://dags.example.com:99999",
        "https://dags.example.com:", "https://dags.example.com:0", "https://dags.example.com//x", "https://a/../b",
        "https://a/%2e%2e", "https://a b", "https://dags.example.com/\n", "https://dags.example.com\\@evil.example",
        "https://[::g]", "https://[1:2]", "https://-a", "https://dägs.example.com", "javascript:alert(1)",
        "https://" + "a" * MAX_URL_CHARACTERS,
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"a URL such as https://dags\.example\.com or .* is expected"):
        public_url(url)
