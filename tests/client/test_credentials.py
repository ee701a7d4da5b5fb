"""A job's own token is used when no other is given, and goes nowhere that somebody could read it."""

import base64
import json
import os

import pytest

from dagferry_client.credentials import Credentials, TokenSource, exposed_file
from dagferry_core.errors import SetupError
from dagferry_follow.errors import TokenUnreadable

HTTPS = "https://dags.example.com"


def jwt(audience: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'RS256'})}.{part({'aud': audience})}.c2ln"


@pytest.fixture
def github(clean_environment, monkeypatch, server):
    """The environment of a job that may ask for a token."""
    variables = {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job-secret",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{server.url}/token?api=1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def test_a_given_token_is_sent_and_no_other(github) -> None:
    credentials = Credentials(TokenSource(token="t", source="--token"), HTTPS, github)
    assert credentials.headers() == {"Authorization": "Bearer t"}
    assert credentials.source == "--token"


def test_a_file_is_read_for_each_request(tmp_path) -> None:
    file = tmp_path / "token"
    credentials = Credentials(TokenSource(file=str(file), source="--token-file"), HTTPS, {})
    for token in ("one", "two"):
        file.write_text(token + "\n")
        assert credentials.headers() == {"Authorization": f"Bearer {token}"}
    file.unlink()
    with pytest.raises(TokenUnreadable, match=str(file)):
        credentials.headers()


def test_no_token_is_no_header() -> None:
    credentials = Credentials(TokenSource(), HTTPS, {})
    assert (credentials.headers(), credentials.source) == ({}, "")
    assert "DAGFERRY_TOKEN" in credentials.missing_hint


def test_a_variable_that_is_not_set_means_no_other_token(github) -> None:
    credentials = Credentials(TokenSource(source="the variable X, which is not set"), HTTPS, github)
    assert credentials.headers() == {}
    assert credentials.source == "the variable X, which is not set"


def test_github_s_token_is_for_our_audience_and_asked_for_once(github, server) -> None:
    server.answer("GET /token?api=1&audience=dagferry", {"value": jwt("dagferry")})
    credentials = Credentials(TokenSource(), HTTPS, github)
    assert credentials.headers() == credentials.headers() == {"Authorization": f"Bearer {jwt('dagferry')}"}
    assert credentials.source == "this GitHub Actions job"
    assert server.requests[0].headers["Authorization"] == "bearer job-secret"


def test_an_old_token_of_github_is_renewed(github, server, monkeypatch) -> None:
    credentials = Credentials(TokenSource(), HTTPS, github)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for moment, asked in ((1000.0, 1), (1119.0, 1), (1121.0, 2)):
        now[0] = moment
        if asked > len(server.requests):
            server.answer("GET /token?api=1&audience=dagferry", {"value": jwt("dagferry")})
        credentials.headers()
        assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [({"value": jwt("other")}, 200, "audience"), ({}, 200, "JSON"), ({"message": "no"}, 500, "code=500")],
)
def test_a_token_that_github_does_not_give_is_an_error_that_says_why(github, server, body, status, said) -> None:
    server.answer("GET /token?api=1&audience=dagferry", body, status)
    with pytest.raises(SetupError, match=said) as caught:
        Credentials(TokenSource(), HTTPS, github).headers()
    assert "GitHub gave this job no token" in caught.value.message
    assert "deploy-from-github-actions.md#the-smallest-workflow" in caught.value.hint


def test_github_s_token_never_leaves_over_plain_http(github, server) -> None:
    credentials = Credentials(TokenSource(), "http://dags.example.com", github)
    assert (credentials.headers(), credentials.source) == ({}, "")
    assert "https" in credentials.missing_hint
    assert server.requests == []


def test_a_job_that_may_not_ask_is_shown_the_permission() -> None:
    credentials = Credentials(TokenSource(), HTTPS, {"GITHUB_ACTIONS": "true"})
    assert credentials.headers() == {}
    assert "id-token: write" in credentials.missing_hint


def test_gitlab_s_token_is_in_its_variable() -> None:
    environment = {"GITLAB_CI": "true", "DAGFERRY_ID_TOKEN": jwt("dagferry")}
    credentials = Credentials(TokenSource(), HTTPS, environment)
    assert credentials.headers() == {"Authorization": f"Bearer {jwt('dagferry')}"}
    assert credentials.source == "DAGFERRY_ID_TOKEN"
    assert Credentials(TokenSource(), "http://dags.example.com", environment).headers() == {}
    assert Credentials(TokenSource(), HTTPS, {"DAGFERRY_ID_TOKEN": "x"}).headers() == {}, "not in GitLab"
    none = Credentials(TokenSource(), HTTPS, {"GITLAB_CI": "true"})
    assert none.headers() == {}
    assert "id_tokens: { DAGFERRY_ID_TOKEN: { aud: dagferry } }" in none.missing_hint


def test_a_token_file_that_others_may_read_is_a_warning(tmp_path) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    for mode, exposed in ((0o600, False), (0o640, False), (0o644, True), (0o604, True)):
        os.chmod(file, mode)
        assert bool(exposed_file(str(file))) == exposed, oct(mode)
    assert f"chmod 600 {file}" in exposed_file(str(file))
    assert exposed_file(str(tmp_path / "absent")) == ""
