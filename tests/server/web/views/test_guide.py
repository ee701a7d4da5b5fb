"""The guide has commands that work as they are, for this visitor and this server."""

from types import SimpleNamespace

import pytest

from credentials import TokensFile
from dagferry_server.web.views.guide import server_url
from harness import pack
from running import A


@pytest.mark.parametrize(
    ("host", "secure", "headers", "url"),
    [
        ("127.0.0.1:8000", False, {"Sec-Fetch-Site": "none"}, "http://127.0.0.1:8000"),
        ("dags.example.com", False, {"Sec-Fetch-Site": "none"}, "https://dags.example.com"),
        ("dags.example.com", False, {}, "http://dags.example.com"),
        ("dags.example.com:8443", True, {}, "https://dags.example.com:8443"),
        ("[::1]:8000", False, {}, "http://[::1]:8000"),
        ("x;rm -rf /", False, {}, ""),
        ("$(id)", True, {}, ""),
    ],
)
def test_the_address_is_as_the_browser_has_it_as_far_as_that_is_known(host, secure, headers, url) -> None:
    assert server_url(SimpleNamespace(host=host, secure=secure, headers=headers), None) == url


def test_the_public_url_counts_if_it_is_set() -> None:
    request = SimpleNamespace(host="x", secure=False, headers={})
    assert server_url(request, "https://example.com/dagferry") == "https://example.com/dagferry"


async def test_it_shows_the_limits_and_what_this_visitor_may(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    read, team = tokens.add("read", ["read"]), tokens.add("team", ["deploy"], prefixes=["team-a/"])
    server = await start("--tokens-file", str(tokens.path), "--tiers", "2", web=True)
    pages = {}
    for token in (read, team):
        answer = await server.get("/-/ui/deployments/default/guide", Authorization=f"Bearer {token}")
        pages[token] = answer.body.decode()
    assert "that needs the scope <code>deploy</code>" in pages[read]
    assert "--under team-a/ --wait" in pages[team]
    assert "dags/upload?under=team-a/" in pages[team]
    assert "30 MiB" in pages[team]
    assert "export DAGFERRY_TOKEN" in pages[team]
    path = "/default/dags/upload?under=team-a/"
    answer = await server.call("POST", path, data=pack(A), headers={"Authorization": f"Bearer {team}"})
    assert answer.status == 200
