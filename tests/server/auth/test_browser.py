"""Web pages of other origins are kept out; commands and the server's own pages are not."""

import pytest

from dagferry_server.auth.browser import refuse_embedding, refuse_foreign_form, refuse_web_pages
from dagferry_server.errors import OriginRefused


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8000"},
        {"Host": "localhost:8000"},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:8000"},
        {"Host": "127.1.2.3"},
        {"Host": "[::1]:8000"},
        {"Host": "localhost:8000", "Sec-Fetch-Site": "none"},
        {"Host": "localhost:8000", "Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8000"},
    ],
)
def test_a_command_on_this_machine_gets_through(headers: dict[str, str]) -> None:
    refuse_web_pages(headers, loopback_only=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8000", "Origin": "https://evil.example"},
        {"Host": "localhost:8000", "Origin": "null"},
        {"Host": "localhost:8000", "Origin": ""},
        {"Host": "localhost:8000", "Origin": "http://localhost:3000"},
        {"Host": "localhost:8000", "Origin": "http://localhost:8000.evil.example"},
        {"Host": "localhost:8000", "Sec-Fetch-Site": "cross-site"},
        {"Host": "localhost:8000", "Sec-Fetch-Site": "same-site"},
        {"Host": "localhost:8000", "Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8000"},
        {"Host": "localhost:8000", "Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
@pytest.mark.parametrize("loopback_only", [True, False])
def test_a_page_of_another_origin_does_not(headers: dict[str, str], *, loopback_only: bool) -> None:
    with pytest.raises(OriginRefused):
        refuse_web_pages(headers, loopback_only=loopback_only)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0.0.0.0:8000",
        "10.0.0.1",
        "[::1",
        "[::2]:8000",
        "evil.example@",
        "localhost:8000@evil.example",
        "127.0.0.1:8000.evil.example",
        "localhost:",
    ],
)
def test_a_name_pointed_at_this_machine_does_not(host: str) -> None:
    with pytest.raises(OriginRefused):
        refuse_web_pages({"Host": host, "Origin": f"http://{host}"}, loopback_only=True)


def test_a_server_that_others_may_reach_has_many_names() -> None:
    refuse_web_pages({"Host": "dagferry.airflow.svc:8000"}, loopback_only=False)


def test_who_sends_no_name_is_no_browser() -> None:
    refuse_web_pages({}, loopback_only=True)  # as a health check in HTTP/1.0


LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
ELSEWHERE = {"Host": "localhost:8000", "Sec-Fetch-Site": "cross-site"}


def test_a_link_on_another_site_leads_to_a_page() -> None:
    refuse_embedding({**ELSEWHERE, **LINK}, loopback_only=True)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "embed"},
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Mode": "cors", "Origin": "https://evil.example"},
    ],
)
def test_another_site_neither_embeds_nor_reads_a_page(more: dict[str, str]) -> None:
    with pytest.raises(OriginRefused):
        refuse_embedding({**ELSEWHERE, **more}, loopback_only=False)


def test_a_link_does_not_lead_to_a_server_without_credentials_by_another_name() -> None:
    with pytest.raises(OriginRefused, match="evil"):
        refuse_embedding({**LINK, "Host": "evil.example"}, loopback_only=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {
            "Sec-Fetch-Site": "same-origin",
            "Origin": "https://dags.example.com:8443",
        },  # a proxy dropped the port of Host
        {"Origin": "http://localhost:8000"},
        {"Origin": "https://localhost:8000"},
    ],
)
def test_our_own_form_gets_through(headers: dict[str, str]) -> None:
    refuse_foreign_form({"Host": "localhost:8000", **headers}, loopback_only=True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "cross-site", **LINK},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://evil.example"},
    ],
)
def test_a_form_of_any_other_page_does_not(headers: dict[str, str]) -> None:
    with pytest.raises(OriginRefused):
        refuse_foreign_form({"Host": "localhost:8000", **headers}, loopback_only=False)


def test_a_form_to_a_server_without_credentials_by_another_name_is_refused() -> None:
    with pytest.raises(OriginRefused, match="evil"):
        refuse_foreign_form({"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}, loopback_only=True)
