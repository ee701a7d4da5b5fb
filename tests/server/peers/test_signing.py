"""Only servers with the secret can send a request, each only once, and an answer belongs to one request."""

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.errors import PeerRefused
from dagferry_server.peers import signing
from dagferry_server.peers.signing import (
    NONCE_HEADER,
    SIGNATURE_HEADER,
    SKEW_SECONDS,
    TIME_HEADER,
    Verifier,
    answer_headers,
    is_signed_answer,
    new_nonce,
    parse_secrets,
    request_headers,
)

SECRET, OTHER = b"s" * 32, b"o" * 32
NOW = 1_800_000_000.0
PATH, BODY = "/-/peers/poke", b'{"deployment": "prod"}'


def headers(**changes: object) -> dict[str, str]:
    given = {"secret": SECRET, "path": PATH, "body": BODY, "now": NOW, "nonce": new_nonce(), **changes}
    return request_headers(**given)


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(lambda: (SECRET,), lambda: NOW)


def test_a_signed_request_is_accepted_and_its_nonce_returned(verifier) -> None:
    signed = headers()
    assert verifier.check(PATH, BODY, signed) == signed[NONCE_HEADER]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        headers(secret=OTHER),
        headers(path="/-/peers/fleet"),
        headers(body=b"{}"),
        headers() | {TIME_HEADER: str(int(NOW) + 1)},
        headers() | {NONCE_HEADER: new_nonce()},
        headers() | {NONCE_HEADER: "0"},
        headers() | {TIME_HEADER: "soon"},
        headers() | {SIGNATURE_HEADER: ""},
        headers() | {SIGNATURE_HEADER: "é\udce9"},
        answer_headers(SECRET, "0" * 32, BODY) | {TIME_HEADER: str(int(NOW)), NONCE_HEADER: "0" * 32},
    ],
    ids=[
        *("nothing", "secret", "path", "body", "time", "nonce", "short-nonce", "no-time", "no-signature"),
        *("not-ascii", "answer-as-request"),
    ],
)
def test_anything_else_is_refused(verifier, sent) -> None:
    with pytest.raises(PeerRefused):
        verifier.check(PATH, BODY, sent)


def test_a_request_is_accepted_once(verifier) -> None:
    signed = headers()
    verifier.check(PATH, BODY, signed)
    with pytest.raises(PeerRefused, match="received before"):
        verifier.check(PATH, BODY, signed)


def test_clocks_may_differ_by_a_minute_and_a_request_is_remembered_for_as_long(verifier) -> None:
    now = [NOW]
    verifier = Verifier(lambda: (SECRET,), lambda: now[0])
    early, late = headers(now=NOW - SKEW_SECONDS), headers(now=NOW + SKEW_SECONDS)
    verifier.check(PATH, BODY, early)
    verifier.check(PATH, BODY, late)
    for off in (-SKEW_SECONDS - 1, SKEW_SECONDS + 1):
        with pytest.raises(PeerRefused, match="set the clocks"):
            verifier.check(PATH, BODY, headers(now=NOW + off))
    now[0] = NOW + 2 * SKEW_SECONDS
    with pytest.raises(PeerRefused, match="received before"):
        verifier.check(PATH, BODY, late)
    now[0] += 1
    verifier.check(PATH, BODY, headers(now=now[0]))
    assert len(verifier._nonces) == 1, "the others are too old to be accepted again"


def test_only_signed_requests_take_memory_and_there_is_a_limit(verifier, monkeypatch) -> None:
    monkeypatch.setattr(signing, "MAX_NONCES", 2)
    for _ in range(5):
        with pytest.raises(PeerRefused):
            verifier.check(PATH, BODY, headers(secret=OTHER))
    verifier.check(PATH, BODY, headers())
    verifier.check(PATH, BODY, headers())
    with pytest.raises(PeerRefused, match="too many"):
        verifier.check(PATH, BODY, headers())


def test_an_answer_is_signed_for_one_request() -> None:
    nonce = new_nonce()
    signed = answer_headers(SECRET, nonce, BODY)
    assert is_signed_answer([OTHER, SECRET], nonce, BODY, signed)
    assert not is_signed_answer([SECRET], new_nonce(), BODY, signed)
    assert not is_signed_answer([SECRET], nonce, b"{}", signed)
    assert not is_signed_answer([OTHER], nonce, BODY, signed)
    assert not is_signed_answer([SECRET], nonce, BODY, {})


def test_a_file_has_one_secret_or_several_while_they_are_exchanged() -> None:
    assert parse_secrets(SECRET + b"\n") == (SECRET,)
    assert parse_secrets(b"\n" + OTHER + b"\r\n\n" + SECRET) == (OTHER, SECRET)


@pytest.mark.parametrize("content", [b"", b" \n", b"s" * 31, SECRET + b"\nshort", (SECRET + b"\n") * 5])
def test_a_file_without_a_long_secret_is_refused_and_not_shown(content) -> None:
    with pytest.raises(SetupError) as caught:
        parse_secrets(content)
    assert "ss" not in caught.value.message
    assert "openssl rand -hex 32" in caught.value.hint
