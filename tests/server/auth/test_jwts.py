"""JWTs of trusted issuers: each way a token or a key set can be bad is refused by name; a good one tells who calls."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from dagferry_core.errors import DagferryError
from dagferry_server.auth.access import Caller
from dagferry_server.auth.fetch import fetch_keys
from dagferry_server.auth.issuers import Issuer, parse_issuers
from dagferry_server.auth.jwts import (
    LEEWAY_SECONDS,
    MAX_ACTOR_CHARACTERS,
    MAX_EXPIRY,
    MAX_JWT_CHARACTERS,
    TrustedIssuer,
    is_jwt,
    jwt_caller,
)
from dagferry_server.auth.keys import ALGORITHMS, FETCH_EVERY_SECONDS, IssuerKeys
from dagferry_server.errors import CredentialsRefused, IssuerUnavailable
from issuer import LocalIssuer, github_claims, kubernetes_claims, make_key, public_jwk

STRANGER = make_key()
WEAK = make_key(bits=1024)


class Local(LocalIssuer):
    """A served issuer, trusted by rules the test chooses, with a clock for its key cache."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.trusted: list[TrustedIssuer] = []

    def trust(self, kind: str = "generic", claims: str = '{ sub = "somebody" }') -> None:
        text = f"""
            [[issuers]]
            name = "local-{kind}"
            kind = "{kind}"
            issuer = "{self.url}"
            audience = "dagferry"
            [[issuers.rules]]
            claims = {claims}
            scopes = ["deploy"]
            deployments = ["prod"]
        """
        issuer: Issuer = parse_issuers(text.encode())[0]
        keys = IssuerKeys(issuer.name, partial(fetch_keys, issuer), clock=lambda: self.now)
        self.trusted = [TrustedIssuer(issuer, keys)]

    async def caller(self, token: str) -> Caller:
        return await jwt_caller(self.trusted, token)

    @property
    def fetches(self) -> int:
        return sum(path == "/keys" for path, _ in self.asked)


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    async with Local().served() as issuer:
        assert isinstance(issuer, Local)
        issuer.trust()
        yield issuer


def raw(header: object, payload: object, signature: bytes = b"") -> str:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload, signature)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def unsigned(local: Local, algorithm: object) -> str:
    now = int(time.time())
    claims = {"iss": local.url, "aud": "dagferry", "sub": "somebody", "iat": now, "exp": now + 300}
    return raw({"alg": algorithm, "kid": "k1"}, claims)


def signed_with_the_public_key(local: Local, form: str) -> str:
    """HS256, with what everybody can fetch as its secret: the classic confusion."""
    public = local.key.public_key()
    secret = {
        "PEM": public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "DER": public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        "JWK": json.dumps(local.keys[0]).encode(),
    }[form]
    head = unsigned(local, "HS256").rsplit(".", 1)[0]
    signature = hmac.digest(secret, head.encode(), hashlib.sha256)
    return head + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def tampered(local: Local) -> str:
    head, _, signature = local.token(sub="somebody else").split(".")
    return ".".join([head, local.token().split(".")[1], signature])


def with_its_own_key(local: Local) -> str:
    claims = jwt.decode(local.token(), options={"verify_signature": False})
    return jwt.encode(claims, STRANGER, "RS256", {"kid": "k1", "jwk": public_jwk(STRANGER, "k1")})


def now() -> int:
    return int(time.time())


BAD_TOKENS: dict[str, tuple[Callable[[Local], str], str]] = {
    "alg none": (lambda i: unsigned(i, "none"), "algorithm is 'none'"),
    "alg None": (lambda i: unsigned(i, "None"), "algorithm is 'None'"),
    "alg empty": (lambda i: unsigned(i, ""), "algorithm is ''"),
    "alg a list": (lambda i: unsigned(i, ["RS256"]), "algorithm is"),
    "alg missing": (lambda i: raw({"kid": "k1"}, {"iss": i.url}), "algorithm is None"),
    "HS256 with the public key as PEM": (lambda i: signed_with_the_public_key(i, "PEM"), "algorithm is 'HS256'"),
    "HS256 with the public key as DER": (lambda i: signed_with_the_public_key(i, "DER"), "algorithm is 'HS256'"),
    "HS256 with the public key as JWK": (lambda i: signed_with_the_public_key(i, "JWK"), "algorithm is 'HS256'"),
    "HS256 with a secret": (lambda i: i.token("x" * 32, "HS256"), "algorithm is 'HS256'"),
    "PS256": (lambda i: i.token(algorithm="PS256"), "algorithm is 'PS256'"),
    "an algorithm the key is not for": (
        lambda i: i.token(algorithm="RS512"),
        "cannot be used with the algorithm RS512",
    ),
    "signed by a stranger": (lambda i: i.token(STRANGER), "not signed by 'local-generic'"),
    "tampered with": (tampered, "not signed by"),
    "signature missing": (lambda i: i.token().rsplit(".", 1)[0] + ".", "not signed by"),
    "a key in its own header": (with_its_own_key, "not signed by"),
    "an unknown critical header": (
        lambda _: raw({"alg": "RS256", "kid": "k1", "crit": ["x"], "x": 1}, {}),
        "not a valid JWT",
    ),
    "unknown kid": (lambda i: i.token(kid="k9"), "not among the keys of 'local-generic'"),
    "kid missing": (lambda i: i.token(kid=None), "has no key id"),
    "kid a number": (lambda i: raw({"alg": "RS256", "kid": 1}, {"iss": i.url}), "not a valid JWT"),
    "wrong issuer": (lambda i: i.token(iss="https://evil.example"), "issuer 'https://evil.example' is not trusted"),
    "issuer with a slash more": (lambda i: i.token(iss=i.url + "/"), "is not trusted by this server"),
    "issuer a list": (lambda i: raw({"alg": "RS256", "kid": "k1"}, {"iss": [i.url]}), "is not trusted"),
    "issuer missing": (lambda i: i.token(iss=None), "issuer None is not trusted"),
    "wrong audience": (lambda i: i.token(aud="https://github.com/acme"), "audience is not 'dagferry'"),
    "wrong audiences": (lambda i: i.token(aud=["a", "dagferry2"]), "audience is not"),
    "audience a map": (lambda i: i.token(aud={"dagferry": 1}), "audience is not"),
    "audience missing": (lambda i: i.token(aud=None), "has no claim 'aud'"),
    "expiry missing": (lambda i: i.token(exp=None), "has no claim 'exp'"),
    "time of issue missing": (lambda i: i.token(iat=None), "has no claim 'iat'"),
    "subject missing": (lambda i: i.token(sub=None), "has no claim 'sub'"),
    "subject a number": (lambda i: i.token(sub=1), "not valid"),
    "expired": (lambda i: i.token(exp=now() - LEEWAY_SECONDS - 1), "has expired"),
    "expiry a word": (lambda i: i.token(exp="never"), "not valid"),
    "expiry infinite": (lambda i: i.token(exp=float("inf")), "not valid"),
    "time of issue infinite": (lambda i: i.token(iat=float("inf")), "not valid"),
    "start infinite": (lambda i: i.token(nbf=float("-inf")), "not valid"),
    "nested deeper than anybody reads": (
        lambda _: raw({"alg": "RS256", "kid": "k1"}, b"[" * (MAX_JWT_CHARACTERS // 2)),
        "not a valid JWT",
    ),
    "not yet valid": (lambda i: i.token(nbf=now() + LEEWAY_SECONDS + 60), "not valid yet"),
    "issued in the future": (lambda i: i.token(iat=now() + LEEWAY_SECONDS + 60), "not valid yet"),
    "another subject": (lambda i: i.token(sub="somebody2"), "No rule for 'local-generic' matches this token"),
    "a longer subject": (lambda i: i.token(sub="a somebody"), "No rule"),
    "two parts": (lambda _: "a.b", "not a valid JWT"),
    "no base64": (lambda _: "?.?.?", "not a valid JWT"),
    "no JSON": (lambda _: raw(b"x", b"x"), "not a valid JWT"),
    "no objects": (lambda _: raw([], []), "not a valid JWT"),
    "encrypted": (lambda i: raw({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "k1"}, {"iss": i.url}), "RSA-OAEP"),
}


async def test_an_expiry_beyond_all_times_is_a_very_late_one(local: Local) -> None:
    caller = await local.caller(local.token(exp=10**400))
    assert caller.expires == MAX_EXPIRY + LEEWAY_SECONDS
    assert caller.expires - time.time() > 0


@pytest.mark.parametrize("state", BAD_TOKENS)
async def test_a_bad_token_is_refused_by_name(local: Local, state: str) -> None:
    make, why = BAD_TOKENS[state]
    token = make(local)
    with pytest.raises(CredentialsRefused) as caught:
        await local.caller(token)
    assert why in caught.value.message
    assert token not in caught.value.message


def break_off(local: Local) -> None:
    local.trusted[0] = TrustedIssuer(
        local.trusted[0].issuer,
        IssuerKeys(
            "local", partial(fetch_keys, local.trusted[0].issuer._replace(source=unreachable(local))), clock=lambda: 0.0
        ),
    )


def unreachable(local: Local) -> Any:
    return local.trusted[0].issuer.source._replace(discovery=None, jwks_url="http://127.0.0.1:1/keys")


def answer(path: str, **options: Any) -> Callable[[Local], None]:
    return lambda local: local.answers.update({path: web.Response(**options)})


def keys(*jwks: object) -> Callable[[Local], None]:
    return lambda local: setattr(local, "keys", list(jwks))


BAD_KEYS: dict[str, tuple[Callable[[Local], None], type[DagferryError], str]] = {
    "unreachable": (break_off, IssuerUnavailable, "cannot be fetched"),
    "discovery gone": (answer("/.well-known/openid-configuration", status=404), IssuerUnavailable, "cannot be fetched"),
    "an error page": (answer("/keys", text="<html>"), IssuerUnavailable, "cannot be fetched"),
    "a server's fault": (answer("/keys", status=503), IssuerUnavailable, "cannot be fetched"),
    "no key set": (answer("/keys", text="{}"), IssuerUnavailable, "cannot be fetched"),
    "empty": (keys(), CredentialsRefused, "It has no usable keys"),
    "rotated away": (keys(public_jwk(make_key(), "k2")), CredentialsRefused, "not among the keys"),
    "same id, another key": (keys(public_jwk(STRANGER, "k1")), CredentialsRefused, "not signed by"),
    "for encryption": (keys(public_jwk(STRANGER, "k1", use="enc")), CredentialsRefused, "no usable keys"),
    "for wrapping keys": (
        keys(public_jwk(STRANGER, "k1", use=None, key_ops=["wrapKey"])),
        CredentialsRefused,
        "no usable keys",
    ),
    "for signing alone": (
        keys(public_jwk(STRANGER, "k1", key_ops=["sign"])),
        CredentialsRefused,
        "no usable keys",
    ),
    "for a word": (keys(public_jwk(STRANGER, "k1", key_ops="verify")), CredentialsRefused, "no usable keys"),
    "a secret as key": (keys({"kty": "oct", "k": "AAAA", "kid": "k1"}), CredentialsRefused, "no usable keys"),
    "of another kind": (
        keys(public_jwk(make_key("ES256"), "k1", "ES256")),
        CredentialsRefused,
        "cannot be used with the algorithm",
    ),
}


@pytest.mark.parametrize("state", BAD_KEYS)
async def test_a_good_token_is_refused_by_name_if_its_key_is_bad(local: Local, state: str) -> None:
    spoil, error, why = BAD_KEYS[state]
    token = local.token()
    spoil(local)
    with pytest.raises(error) as caught:
        await local.caller(token)
    assert why in caught.value.message


async def test_a_key_so_short_that_it_can_be_broken_is_refused(local: Local) -> None:
    local.keys = [public_jwk(WEAK, "k1")]
    with pytest.warns(match="RSA key"):
        token = local.token(WEAK)
    with pytest.raises(CredentialsRefused, match="below the minimum"):
        await local.caller(token)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_algorithm_that_is_listed_works(local: Local, algorithm: str) -> None:
    key = make_key(algorithm)
    local.keys = [public_jwk(key, "k1", algorithm)]
    caller = await local.caller(local.token(key, algorithm))
    assert caller.actor == "local-generic:somebody"
    assert caller.scopes("prod") == {"deploy", "read"}


@pytest.mark.parametrize(
    "claims",
    [
        lambda: {"aud": ["other", "dagferry"]},
        lambda: {"exp": now() - LEEWAY_SECONDS // 2},
        lambda: {"nbf": now() + LEEWAY_SECONDS, "iat": now() + LEEWAY_SECONDS},
        lambda: {"nbf": None},
    ],
)
async def test_what_the_rules_of_jwts_allow_is_allowed(local: Local, claims: Callable[[], dict[str, Any]]) -> None:
    assert await local.caller(local.token(**claims()))


async def test_a_caller_ends_with_the_token(local: Local) -> None:
    ends = now() + 100
    assert (await local.caller(local.token(exp=ends))).expires == ends + LEEWAY_SECONDS


async def test_bad_tokens_by_the_thousand_make_at_most_one_fetch_a_minute(local: Local) -> None:
    for second in range(180):
        local.now = 1000.0 + second
        with pytest.raises((CredentialsRefused, IssuerUnavailable)):
            await local.caller(local.token(kid=f"made-up-{second}"))
    assert local.fetches == 180 / FETCH_EVERY_SECONDS


async def test_an_issuer_rotates_its_keys_and_no_good_token_is_refused(local: Local) -> None:
    new = make_key()
    assert await local.caller(local.token())
    local.now += FETCH_EVERY_SECONDS
    local.keys.append(public_jwk(new, "k2"))
    assert await local.caller(local.token(new, kid="k2"))
    assert await local.caller(local.token())
    assert local.fetches == 2


async def test_a_known_key_works_while_the_issuer_is_away(local: Local) -> None:
    assert await local.caller(local.token())
    local.answers["/keys"] = web.Response(status=500)
    local.now += 24 * 3600
    assert await local.caller(local.token())
    with pytest.raises(IssuerUnavailable):
        await local.caller(local.token(kid="k2"))
    assert await local.caller(local.token())


# --- tokens as real issuers shape them -------------------------------------------------------------------------------


async def test_github_a_repository_is_known_by_its_number_and_its_branch(local: Local) -> None:
    local.trust("github", '{ repository_id = "123", ref = "refs/heads/main" }')
    caller = await local.caller(local.token(**github_claims()))
    assert caller.actor == "local-github:repo:acme@1/dags@123:ref:refs/heads/main repository=acme/dags run_id=77"
    for claims in (
        github_claims(repository_id="124"),
        github_claims(ref="refs/heads/other"),
        github_claims(ref="refs/pull/1/merge"),
    ):
        with pytest.raises(CredentialsRefused, match="No rule"):
            await local.caller(local.token(**claims))


async def test_gitlab_a_project_is_known_by_its_number(local: Local) -> None:
    local.trust("gitlab", '{ project_id = 22, ref_protected = "true" }')
    claims = {"project_id": "22", "project_path": "g/p", "ref_protected": "true", "job_id": "302"}
    sub = "project_path:g/p:ref_type:branch:ref:main"
    caller = await local.caller(local.token(sub=sub, **claims))
    assert caller.actor == f"local-gitlab:{sub} project_path=g/p job_id=302"
    for change in ({"project_id": "23"}, {"ref_protected": "false"}):
        with pytest.raises(CredentialsRefused, match="No rule"):
            await local.caller(local.token(sub=sub, **{**claims, **change}))


async def test_kubernetes_a_service_account_is_known_by_namespace_and_name(local: Local) -> None:
    local.trust("kubernetes", '{ sub = "system:serviceaccount:airflow:*" }')
    assert (await local.caller(local.token(**kubernetes_claims()))).actor == (
        "local-kubernetes:system:serviceaccount:airflow:worker"
    )
    for claims in (kubernetes_claims("airflow2"), kubernetes_claims("default")):
        with pytest.raises(CredentialsRefused, match="No rule"):
            await local.caller(local.token(**claims))


async def test_kubernetes_a_token_that_is_bound_to_a_pod_says_which(local: Local) -> None:
    local.trust("kubernetes", '{ sub = "system:serviceaccount:airflow:*" }')
    claims = kubernetes_claims(pod="worker-0")
    assert (await local.caller(local.token(**claims))).pod == "worker-0"
    assert (await local.caller(local.token(**kubernetes_claims()))).pod is None, "one that is bound to no pod"
    for odd in (None, "worker-0", {"pod": "worker-0"}, {"pod": {"name": 7}}, {"pod": {"name": ""}}, {"pod": {}}):
        assert (await local.caller(local.token(**{**claims, "kubernetes.io": odd}))).pod is None
    local.trust("generic", '{ sub = "system:serviceaccount:airflow:worker" }')
    assert (await local.caller(local.token(**claims))).pod is None, "another issuer may let anybody choose its claims"


async def test_all_rules_that_match_add_up(local: Local) -> None:
    local.trust("github", '{ repository_id = "123" }')
    issuer, cached = local.trusted[0]
    more = issuer.rules[0]._replace(grant=issuer.rules[0].grant._replace(deployments=("dev",)))
    other = more._replace(claims={"repository_id": ("9",)})
    local.trusted = [TrustedIssuer(issuer._replace(rules=(*issuer.rules, more, other)), cached)]
    caller = await local.caller(local.token(**github_claims()))
    assert [grant.deployments for grant in caller.grants] == [("prod",), ("dev",)]


async def test_an_actor_is_one_line_of_bounded_length_whatever_the_claims(local: Local) -> None:
    local.trust("github", '{ repository_id = "123" }')
    claims = github_claims(ref="a\nb\x1b[31m\u202e" + "c" * 1000)
    actor = (await local.caller(local.token(**claims))).actor
    assert actor.isprintable()
    assert len(actor) == MAX_ACTOR_CHARACTERS


@pytest.mark.parametrize(
    ("text", "so"), [("a.b.c", True), ("dgf_abc", False), ("a.b", False), ("a" * 20_000 + ".b.c", False)]
)
def test_a_jwt_is_recognized_by_its_form(text: str, *, so: bool) -> None:
    assert is_jwt(text) is so
