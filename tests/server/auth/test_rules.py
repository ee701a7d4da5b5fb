"""Rules of issuers: who matches, and which rules bind nobody."""

import pytest

from dagferry_server.auth.access import Grant
from dagferry_server.auth.rules import Kind, Rule, unbound

GRANT = Grant(frozenset({"deploy"}), ("prod",))


@pytest.mark.parametrize(
    ("kind", "claims"),
    [
        ("github", {"repository_id": ["123"]}),
        ("github", {"repository_id": ["123"], "ref": ["*"], "sub": ["*"]}),
        ("github", {"sub": ["repo:acme/dags:ref:refs/heads/main"]}),
        ("github", {"sub": ["repo:acme/dags:environment:*"]}),
        ("github", {"sub": ["repo:acme@1/dags@2:*"]}),
        ("github", {"sub": ["whatever its owner made of it"]}),
        ("gitlab", {"project_id": ["22"]}),
        ("gitlab", {"sub": ["project_path:group/sub/project:ref_type:branch:ref:*"]}),
        ("kubernetes", {"sub": ["system:serviceaccount:airflow:worker"]}),
        ("kubernetes", {"sub": ["system:serviceaccount:airflow:*"]}),
        ("generic", {"sub": ["somebody"]}),
    ],
)
def test_a_rule_that_spells_out_who_is_good(kind: Kind, claims: dict[str, list[str]]) -> None:
    assert unbound(kind, claims) is None


@pytest.mark.parametrize(
    ("kind", "claims", "wanted"),
    [
        ("github", {}, "repository_id"),
        ("github", {"aud": ["dagferry"]}, "repository_id"),
        ("github", {"ref": ["refs/heads/main"], "environment": ["production"]}, "repository_id"),
        ("github", {"repository": ["acme/dags"]}, "repository_id"),
        ("github", {"repository_owner_id": ["1"]}, "repository_id"),
        ("github", {"repository_id": ["*"]}, "repository_id"),
        ("github", {"repository_id": ["12*"]}, "repository_id"),
        ("github", {"repository_id": ["123", "*"]}, "repository_id"),
        ("github", {"repository_id": [""]}, "repository_id"),
        ("github", {"repository_id": ["acme/dags"]}, "repository_id"),
        ("github", {"sub": ["*"]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": ["**"]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": [""]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": ["repo:*"]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": ["repo:acme/*"]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": ["repo:acme/dags*"]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": ["*:environment:production"]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": ["repo:*/dags:ref:refs/heads/main"]}, "repo:OWNER/REPOSITORY:"),
        ("github", {"sub": ["repo:acme/dags:*", "*"]}, "repo:OWNER/REPOSITORY:"),
        ("gitlab", {"repository_id": ["1"]}, "project_id"),
        ("gitlab", {"project_path": ["group/project"]}, "project_id"),
        ("gitlab", {"sub": ["project_path:group/*"]}, "project_path:GROUP/PROJECT:"),
        ("kubernetes", {"project_id": ["1"]}, "claims.sub"),
        ("kubernetes", {"sub": ["system:serviceaccount:*"]}, "NAMESPACE"),
        ("kubernetes", {"sub": ["system:serviceaccount:*:worker"]}, "NAMESPACE"),
        ("kubernetes", {"sub": ["system:serviceaccount:team-*:worker"]}, "NAMESPACE"),
        ("generic", {"sub": ["some*"]}, "claims.sub"),
        ("generic", {"email": ["somebody@example.com"]}, "claims.sub"),
    ],
)
def test_a_rule_that_anybody_could_match_is_refused_and_says_what_it_lacks(
    kind: Kind, claims: dict[str, list[str]], wanted: str
) -> None:
    why = unbound(kind, claims)
    assert why
    assert "does not restrict who may use it" in why
    assert wanted in why


@pytest.mark.parametrize(
    "claims",
    [
        {"a": "x", "b": "refs/heads/main"},
        {"a": "y", "b": "refs/heads/"},
        {"a": "x", "b": "refs/heads/a/b", "c": "d"},
    ],
)
def test_every_claim_must_match_one_of_its_patterns(claims: dict[str, object]) -> None:
    assert Rule({"a": ("x", "y"), "b": ("refs/heads/*",)}, GRANT).allows(claims)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"a": "x"},
        {"a": "z", "b": "refs/heads/main"},
        {"a": "x", "b": "refs/tags/main"},
        {"a": "x", "b": " refs/heads/main"},
        {"a": ["x"], "b": "refs/heads/main"},
        {"a": None, "b": "refs/heads/main"},
        {"a": {"x": "x"}, "b": "refs/heads/main"},
    ],
)
def test_one_claim_that_does_not_match_or_is_missing_is_enough_to_refuse(claims: dict[str, object]) -> None:
    assert not Rule({"a": ("x", "y"), "b": ("refs/heads/*",)}, GRANT).allows(claims)


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"sub": "a:b"}, True),
        ({"sub": "a:checker"}, False),
        ({"sub": "a:checker-2", "b": "c"}, False),
        ({"sub": "a:b", "team": "x"}, False),
        ({"sub": "a:b", "team": ["x"]}, False),
        ({"sub": "a:b", "team": "y"}, True),
        ({"sub": "b:b"}, False),
    ],
)
def test_who_is_an_exception_does_not_get_it(claims: dict[str, object], allowed: bool) -> None:
    rule = Rule({"sub": ("a:*",)}, GRANT, {"sub": ("a:checker*", "a:other"), "team": ("x",)})
    assert rule.allows(claims) is allowed


def test_a_star_does_not_make_up_for_a_missing_claim() -> None:
    assert not Rule({"a": ("*",)}, GRANT).allows({})


def test_numbers_and_switches_match_as_text() -> None:
    rule = Rule({"id": ("7",), "protected": ("true",)}, GRANT)
    assert rule.allows({"id": 7, "protected": True})
    assert rule.allows({"id": "7", "protected": "true"})
    assert not rule.allows({"id": 7, "protected": 1})
    assert not rule.allows({"id": 7.0, "protected": True})
