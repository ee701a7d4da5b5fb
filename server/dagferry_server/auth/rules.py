"""The rules of a trusted issuer: which of its subjects get which scopes. Pure.

Everybody with a GitHub account can get a token of GitHub's issuer with any audience. So a rule that does not restrict
*who* may use it would grant its scopes to the whole world, and is rejected when the server starts.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from dagferry_server.auth.access import Grant
from dagferry_server.auth.patterns import matches

Kind = Literal["github", "gitlab", "kubernetes", "generic"]

IDENTITY_CLAIM: Mapping[Kind, str] = {"github": "repository_id", "gitlab": "project_id"}
"""The claim with a number that identifies a caller permanently. Names can be sold, renamed and taken over."""

_SUBJECT_WHO: Mapping[Kind, re.Pattern[str]] = {
    # GitHub's immutable subjects include the numbers of owner and repository: repo:acme@1/dags@2:…
    "github": re.compile(r"repo:[^/:]+/[^/:]+:"),
    "gitlab": re.compile(r"project_path:[^:]+/[^/:]+:"),
    "kubernetes": re.compile(r"system:serviceaccount:[^:]+:"),
}
"""How much of a subject must be literal before its first ``*``: up to the repository, project or namespace. The format
of other issuers' subjects is unknown, so theirs must be literal."""


class Rule(NamedTuple):
    """A token that matches ``claims`` (claim → patterns, one of which must match) gets ``grant``.

    One of whose claims a pattern of ``except_claims`` matches does not get it, nor one whose claim of that name is not
    text.
    """

    claims: Mapping[str, tuple[str, ...]]
    grant: Grant
    except_claims: Mapping[str, tuple[str, ...]] = {}

    def allows(self, claims: Mapping[str, Any]) -> bool:
        """Return whether a token with ``claims`` meets every condition of this rule, and none of its exceptions."""
        return all(
            text is not None and any(matches(pattern, text) for pattern in patterns)
            for text, patterns in ((claim_text(claims.get(name)), patterns) for name, patterns in self.claims.items())
        ) and not any(
            (text := claim_text(claims[name])) is None or any(matches(pattern, text) for pattern in patterns)
            for name, patterns in self.except_claims.items()
            if name in claims
        )


def claim_text(value: object) -> str | None:
    """Return a claim as text for rules: a string, an integer, or ``true``/``false``; ``None`` for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) else None


def unbound(kind: Kind, claims: Mapping[str, Iterable[str]]) -> str | None:
    """Return why a rule with these ``claims`` does not restrict who may use it, ``None`` if it does."""
    identity = IDENTITY_CLAIM.get(kind)
    if identity and identity in claims and all(re.fullmatch("[0-9]+", pattern) for pattern in claims[identity]):
        return None
    if "sub" in claims and all(_names_somebody(kind, pattern) for pattern in claims["sub"]):
        return None
    wanted = "claims.sub, spelled out" + (
        f" to the end of {_SHOWN_WHO[kind]} before any *" if kind in _SHOWN_WHO else ""
    )
    if identity:
        wanted = f"claims.{identity} (a number, without *) or {wanted}"
    return (
        "the rule does not restrict who may use it, and everybody with an account at the issuer can get a token for "
        f"this audience; it needs {wanted}"
    )


_SHOWN_WHO: Mapping[Kind, str] = {
    "github": "repo:OWNER/REPOSITORY:",
    "gitlab": "project_path:GROUP/PROJECT:",
    "kubernetes": "system:serviceaccount:NAMESPACE:",
}


def _names_somebody(kind: Kind, subject: str) -> bool:
    fixed, star, _ = subject.partition("*")
    if not star:
        return bool(subject)
    who = _SUBJECT_WHO.get(kind)
    return who is not None and who.match(fixed) is not None
