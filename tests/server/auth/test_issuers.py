"""The issuers file: what it may say, and what ends the command before anybody could use it."""

import base64
import json
import re
from pathlib import Path

import pytest

from dagferry_core.errors import EXIT_USAGE, SetupError
from dagferry_server.auth.access import Grant
from dagferry_server.auth.issuers import KeySource, is_safe_url, parse_issuers

GITHUB = """
[[issuers]]
name = "github"
kind = "github"
issuer = "https://token.actions.githubusercontent.com"
audience = "dagferry"

[[issuers.rules]]
claims = { repository_id = 123, environment = ["production", "staging-*"] }
scopes = ["deploy"]
deployments = ["prod"]
"""
KUBERNETES = """
[[issuers]]
name = "cluster"
kind = "kubernetes"
issuer = "https://kubernetes.default.svc.cluster.local"
audience = "dagferry"
jwks_url = "https://kubernetes.default.svc/openid/v1/jwks"
ca_file = "/ca.crt"
bearer_token_file = "/token"

[[issuers.rules]]
claims = { sub = "system:serviceaccount:airflow:worker" }
scopes = ["sync"]
deployments = ["prod"]
"""


def test_an_issuer_says_where_its_keys_are_and_what_its_subjects_get() -> None:
    github, cluster = parse_issuers((GITHUB + KUBERNETES).encode())
    assert github.source == KeySource(
        "https://token.actions.githubusercontent.com/.well-known/openid-configuration", None, None, None, None
    )
    assert github.rules[0].claims == {"repository_id": ("123",), "environment": ("production", "staging-*")}
    assert github.rules[0].grant == Grant(frozenset({"deploy"}), ("prod",))
    assert cluster.source == KeySource(None, "https://kubernetes.default.svc/openid/v1/jwks", None, "/ca.crt", "/token")


def test_a_rule_may_be_limited_to_folders_and_have_a_gate() -> None:
    limits = 'deployments = ["prod"]\nprefixes = ["team-a"]\ngate = "warn"'
    [issuer] = parse_issuers(GITHUB.replace('deployments = ["prod"]', limits).encode())
    assert issuer.rules[0].grant == Grant(frozenset({"deploy"}), ("prod",), ("team-a/",), "warn")


def test_a_rule_may_have_exceptions() -> None:
    limits = 'deployments = ["prod"]\nexcept_claims = { environment = "staging-2", run = [1, true] }'
    [issuer] = parse_issuers(GITHUB.replace('deployments = ["prod"]', limits).encode())
    assert issuer.rules[0].except_claims == {"environment": ("staging-2",), "run": ("1", "true")}
    assert parse_issuers(GITHUB.encode())[0].rules[0].except_claims == {}


def test_keys_from_a_file_need_no_url() -> None:
    text = KUBERNETES.replace("https://kubernetes.default.svc.cluster.local", "kubernetes/serviceaccount")
    text = re.sub("(jwks_url|ca_file|bearer_token_file) = .*\n", "", text).replace(
        "[[issuers.rules]]", 'jwks_file = "/keys.json"\n[[issuers.rules]]'
    )
    assert parse_issuers(text.encode())[0].source == KeySource(None, None, "/keys.json", None, None)


ISSUER_LINE = 'issuer = "https://kubernetes.default.svc.cluster.local"\n'


def own_token(folder: Path, claims: object) -> str:
    """A file with a token like a pod's own, and the issuers file that leaves the issuer to it."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    (folder / "token").write_bytes(b"e30." + payload + b".c2lnbmF0dXJl")
    return KUBERNETES.replace(ISSUER_LINE, "").replace("/token", str(folder / "token"))


@pytest.mark.parametrize("issuer", ["https://oidc.example.com/id/1", "kubernetes/serviceaccount", "a", "ab", "abc"])
def test_a_cluster_without_an_issuer_has_that_of_the_pod_s_own_token(tmp_path: Path, issuer: str) -> None:
    [cluster] = parse_issuers(own_token(tmp_path, {"iss": issuer}).encode())
    assert cluster.issuer == issuer
    assert cluster.source.jwks_url == "https://kubernetes.default.svc/openid/v1/jwks"


@pytest.mark.parametrize("claims", [{}, {"iss": ""}, {"iss": 1}, ["iss"]], ids=str)
def test_a_token_without_an_issuer_is_an_error_that_names_the_setting(tmp_path: Path, claims: object) -> None:
    with pytest.raises(SetupError, match="token is not a token that names its issuer: set issuer"):
        parse_issuers(own_token(tmp_path, claims).encode())


@pytest.mark.parametrize("content", [b"", b"dgf_secret", b"a.b.c", b"a.\xff\xff\xff\xff.c"], ids=str)
def test_and_so_is_a_file_without_such_a_token(tmp_path: Path, content: bytes) -> None:
    text = own_token(tmp_path, {})
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(SetupError, match="token is not a token that names its issuer"):
        parse_issuers(text.encode())


def test_the_cluster_s_own_issuer_named_twice_is_noticed(tmp_path: Path) -> None:
    text = own_token(tmp_path, {"iss": "https://kubernetes.default.svc.cluster.local"})
    with pytest.raises(SetupError, match="two entries with the same issuer"):
        parse_issuers((text + KUBERNETES.replace('"cluster"', '"second"')).encode())


@pytest.mark.parametrize("gone", ["jwks_url", "bearer_token_file"])
def test_only_a_cluster_with_its_keys_and_a_token_may_leave_the_issuer_to_it(tmp_path: Path, gone: str) -> None:
    text = re.sub(f"{gone} = .*\n", "", own_token(tmp_path, {"iss": "https://a"}))
    with pytest.raises(SetupError, match="issuer is missing"):
        parse_issuers(text.encode())
    with pytest.raises(SetupError, match="issuer is missing"):
        parse_issuers(re.sub("issuer = .*\n", "", GITHUB).encode())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("repository_id = 123, ", "", "rule 1 of 'github': the rule does not restrict who may use it"),
        ("repository_id = 123", 'repository_id = "*"', "does not restrict who may use it"),
        ("repository_id = 123", "repository_id = []", "repository_id"),
        ("repository_id = 123", "repository_id = 1.5", "repository_id"),
        ('"deploy"', '"everything"', "issuers.0.rules.0.scopes"),
        ('deployments = ["prod"]', "", "issuers.0.rules.0.deployments"),
        ('audience = "dagferry"', "", "issuers.0.audience"),
        ('audience = "dagferry"', 'audience = ""', "issuers.0.audience"),
        ('kind = "github"', 'kind = "forge"', "issuers.0.kind"),
        ('kind = "github"', 'kind = "github"\nalgorithms = ["none"]', "issuers.0.algorithms"),
        ('name = "github"', 'name = "token"', "is reserved"),
        ('name = "github"', 'name = "Git hub"', "issuers.0.name"),
        ("https://", "http://", "issuer must be an https URL"),
        ("https://token.actions.githubusercontent.com", "github", "issuer must be an https URL"),
        ('kind = "github"', 'kind = "github"\njwks_url = "http://10.0.0.1/keys"', "jwks_url must be an https URL"),
        ('kind = "github"', 'kind = "github"\njwks_file = "/a"\nca_file = "/b"', "with jwks_file nothing is fetched"),
        ("[[issuers.rules]]", "[[issuers.rule]]", "issuers.0.rules"),
        ("[[issuers]]", "[[issuer]]", "issuers"),
        ("[[issuers]]", "[[issuers]", "TOML"),
    ],
)
def test_what_is_unsafe_or_unknown_ends_with_exit_code_2_and_says_why(old: str, new: str, why: str) -> None:
    assert old in GITHUB
    with pytest.raises(SetupError, match=re.escape(why)) as caught:
        parse_issuers(GITHUB.replace(old, new).encode())
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("old", ['name = "github"', 'issuer = "https://token.actions.githubusercontent.com"'])
def test_a_name_or_an_issuer_may_stand_once(old: str) -> None:
    value = old.split('"')[1]
    second = GITHUB.replace('name = "github"', 'name = "second"').replace("https://", "https://second.")
    twice = (
        GITHUB + second.replace("second.token", "token")
        if value.startswith("https")
        else GITHUB + second.replace('"second"', '"github"')
    )
    with pytest.raises(SetupError, match="two entries with the same"):
        parse_issuers(twice.encode())


@pytest.mark.parametrize(
    "url", ["https://a", "https://a:8443/x", "http://127.0.0.1:1/", "http://localhost", "http://[::1]:1"]
)
def test_keys_may_come_from_https_or_from_this_machine(url: str) -> None:
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        None,
        1,
        "",
        "https://",
        "http://a",
        "http://127.0.0.1.example.com",
        "http://localhost@evil",
        "file:///etc/passwd",
        "https://[::1",
    ],
)
def test_and_from_nowhere_else(url: object) -> None:
    assert not is_safe_url(url)
