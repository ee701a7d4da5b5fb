"""Each answer that is not the one that was asked for becomes a sentence that says who answered and what to do."""

import json

import pytest
from requests.structures import CaseInsensitiveDict

from dagferry_client.answers import refusal
from dagferry_client.credentials import Credentials, TokenSource
from dagferry_client.errors import ClientError, RequestNotAllowed, RequestRefused, ServerTooOld, ServerUnavailable
from dagferry_follow.errors import AnswerInvalid

URL = "https://dags.example.com"
NOBODY = Credentials(TokenSource(), URL, {})
HTML = b"<html><head><title>413 Request Entity Too Large</title></head></html>"


def judge(status: int, body: object = b"", credentials: Credentials = NOBODY, **headers: str):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})
    return refusal(status, named, data, URL, credentials)


def ours(code: str, **details: object) -> dict[str, object]:
    return {"code": code, "message": "What happened.", "hint": "What to do.", **details}


@pytest.mark.parametrize("name", ["skip_gate", "skip_import_check", "allow_removals", "override_freeze"])
def test_a_hint_names_the_option_of_the_command(name) -> None:
    said = ours("gate_refused") | {"hint": f"A caller with the scope override may add ?{name}=1."}
    option = f"--{name.replace('_', '-')}"
    assert judge(422, said).hint == f"A caller with the scope override may add {option}."


@pytest.mark.parametrize("status", [200, 201, 204, 304])
def test_success_is_no_error(status) -> None:
    assert judge(status, b"anything", Content_Type="application/json") is None
    assert judge(status, b"") is None


@pytest.mark.parametrize(
    ("status", "code", "kind", "exit_code"),
    [
        (400, "request_invalid", RequestRefused, 3),
        (401, "unauthenticated", RequestNotAllowed, 4),
        (403, "forbidden", RequestNotAllowed, 4),
        (404, "deployment_not_found", RequestNotAllowed, 4),
        (409, "deployment_disabled", RequestNotAllowed, 4),
        (409, "base_gone", RequestNotAllowed, 4),
        (410, "bundle_gone", RequestNotAllowed, 4),
        (412, "version_mismatch", RequestRefused, 3),
        (413, "upload_too_large", RequestRefused, 3),
        (422, "gate_refused", RequestRefused, 3),
        (423, "deployment_frozen", RequestNotAllowed, 4),
        (500, "internal", ServerUnavailable, 5),
        (503, "busy", ServerUnavailable, 5),
        (507, "disk_full", ServerUnavailable, 5),
    ],
)
def test_an_error_of_the_server_keeps_its_code_sentences_and_fields(status, code, kind, exit_code) -> None:
    error = judge(status, ours(code, problem_count=3))
    assert type(error) is kind
    assert (error.exit_code, error.status_code, error.reason, error.message) == (
        exit_code,
        status,
        code,
        "What happened.",
    )
    assert error.as_dict() == ours(code, problem_count=3) if status != 401 else True


def test_the_exit_codes_are_those_of_the_errors_table() -> None:
    """A server's error that a command passes on ends it as the table of errors says."""
    from dagferry_core.archive.errors import ArchiveError, BundleError
    from dagferry_core.errors import with_subclasses
    from dagferry_server.errors import RequestError, ServerError

    differing = {
        error.code
        for error in with_subclasses(ArchiveError, BundleError, RequestError, ServerError)
        if error is not None and judge(error.status, ours(error.code)).exit_code != error.exit_code
    }
    assert differing - {"route_not_found"} == set()


def test_without_a_token_the_hint_says_how_to_give_one() -> None:
    assert "DAGFERRY_TOKEN" in judge(401, ours("unauthenticated")).hint


def test_a_refused_token_is_named_by_where_it_came_from() -> None:
    given = Credentials(TokenSource(token="dgf_secret", source="DAGFERRY_TOKEN"), URL, {})
    hint = judge(401, ours("credentials_refused"), given).hint
    assert hint == "The token came from DAGFERRY_TOKEN. What to do."


def test_an_endpoint_that_is_missing_means_an_old_server() -> None:
    error = judge(404, ours("route_not_found"), Server="dagferry/1.2.0")
    assert type(error) is ServerTooOld
    assert "(dagferry/1.2.0) has no endpoint for this command" in error.message
    assert "Upgrade the server" in error.hint
    assert "dagferry/" not in judge(404, ours("route_not_found")).message


@pytest.mark.parametrize(
    ("status", "kind", "said", "hint"),
    [
        (401, RequestNotAllowed, "asks for a login", "requests with a token"),
        (403, RequestNotAllowed, "forbids the request", "firewall"),
        (404, RequestNotAllowed, "does not know the path", "server's URL"),
        (405, RequestRefused, "does not allow the method", "server's URL"),
        (407, RequestNotAllowed, "asks for a login", "http://USER:PASSWORD@HOST:PORT"),
        (408, ServerUnavailable, "waited too long for the request", "timeouts"),
        (413, RequestRefused, "refuses an upload of this size", "client_max_body_size"),
        (418, RequestRefused, "answered 418", "proxies"),
        (429, ServerUnavailable, "limits the number of requests", "later"),
        (500, ServerUnavailable, "answered 500", "proxies"),
        (502, ServerUnavailable, "does not reach the server", "running"),
        (503, ServerUnavailable, "has no server to pass the request to", "running"),
        (504, ServerUnavailable, "waited too long for the server", "timeouts"),
    ],
)
@pytest.mark.parametrize("body", [HTML, b"", b'{"message": "x"}', b"[]", b'{"code": 1, "message": "", "hint": ""}'])
def test_who_stands_in_front_is_named_and_its_page_is_not_shown(status, kind, said, hint, body) -> None:
    error = judge(status, body, Server="nginx", Content_Type="text/html")
    assert type(error) is kind
    assert f"Something in front of the server (nginx) {said}" in error.message
    assert hint in error.hint
    assert "Entity" not in error.message
    assert (error.reason, error.as_dict()["code"]) == ("", kind.code)
    assert judge(status, body).message.startswith("Something in front of the server ")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_named_with_its_location(status) -> None:
    error = judge(status, HTML, Location="https://login.example.com/" + "x" * 1000)
    assert type(error) is AnswerInvalid
    assert "redirects to https://login.example.com/" in error.message
    assert len(error.message) < 500
    assert "https:// instead of http://" in error.hint


@pytest.mark.parametrize("content_type", ["text/html", "Text/HTML; charset=utf-8"])
def test_a_web_page_with_200_is_no_success(content_type) -> None:
    error = judge(200, HTML, Content_Type=content_type)
    assert type(error) is AnswerInvalid
    assert "may be a login page" in error.message


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (503, {}, 0.0),
        (503, {"Retry_After": "7"}, 7.0),
        (503, {"Retry_After": "Fri, 27 Nov 2026 10:00:00 GMT"}, 0.0),
        (503, {"Retry_After": "-5"}, 0.0),
        (503, {"Retry_After": "9" * 400}, 0.0),
        (507, {"Retry_After": "30"}, 30.0),
        (502, {}, 0.0),
        (504, {}, 0.0),
        (500, {"Retry_After": "7"}, None),
        (422, {"Retry_After": "7"}, None),
    ],
)
@pytest.mark.parametrize("body", [HTML, ours("busy")])
def test_only_what_may_succeed_later_is_worth_another_attempt(status, headers, seconds, body) -> None:
    error = judge(status, body, **headers)
    assert isinstance(error, ClientError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    "said",
    [
        b"This port expects HTTPS. Use https:// instead of http://.\n",
        b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
        b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
        b"Client sent an HTTP request to an HTTPS server.\n",
    ],
)
def test_a_port_that_expects_https_says_so_to_plain_http(said) -> None:
    error = refusal(400, CaseInsensitiveDict(), said, "http://dags.example.com", NOBODY)
    assert error.message == "http://dags.example.com expects https, and was asked over plain http."
    assert error.hint == "Write https:// in the server's URL."
    assert error.exit_code == 3
    # Over https, and with another status, it is something else.
    for status, url in ((400, "https://dags.example.com"), (500, "http://dags.example.com")):
        assert "in front of the server" in refusal(status, CaseInsensitiveDict(), said, url, NOBODY).message
