"""The issuers file: what it may say, and what ends the command before anybody could use it."""

import re

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


def test_keys_from_a_file_need_no_url() -> None:
    text = KUBERNETES.replace("https://kubernetes.default.svc.cluster.local", "kubernetes/serviceaccount")
    text = re.sub("(jwks_url|ca_file|bearer_token_file) = .*\n", "", text).replace(
        "[[issuers.rules]]", 'jwks_file = "/keys.json"\n[[issuers.rules]]'
    )
    assert parse_issuers(text.encode())[0].source == KeySource(None, None, "/keys.json", None, None)


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
