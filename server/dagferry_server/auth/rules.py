"""The rules of a trusted issuer: which of its subjects get what. Pure.

Everybody with an account at GitHub can have a token of GitHub's issuer with the audience of their choice. So a rule
that does not bind *who* asks gives its scopes to the whole world, and is refused when the server starts.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from dagferry_server.auth.access import Grant
from dagferry_server.auth.patterns import matches

Kind = Literal["github", "gitlab", "kubernetes", "generic"]

IDENTITY_CLAIM: Mapping[Kind, str] = {"github": "repository_id", "gitlab": "project_id"}
"""The number that names a caller for ever. Names are sold, renamed and taken over; these are not."""

_SUBJECT_WHO: Mapping[Kind, re.Pattern[str]] = {
    # With GitHub's immutable subjects, owner and repository carry their numbers: repo:acme@1/dags@2:…
    "github": re.compile(r"repo:[^/:]+/[^/:]+:"),
    "gitlab": re.compile(r"project_path:[^:]+/[^/:]+:"),
    "kubernetes": re.compile(r"system:serviceaccount:[^:]+:"),
}
"""How far a subject must be spelled out before its first ``*``: to the repository, the project, the namespace. What an
issuer of another kind means by its subjects is not known, so there every subject is spelled out."""


class Rule(NamedTuple):
    """Who matches ``claims`` (claim → patterns, one of which must match) gets ``grant``."""

    claims: Mapping[str, tuple[str, ...]]
    grant: Grant

    def allows(self, claims: Mapping[str, Any]) -> bool:
        """Tell whether a token with ``claims`` meets every condition of this rule."""
        return all(
            any(text is not None and matches(pattern, text) for pattern in patterns)
            for text, patterns in ((claim_text(claims.get(name)), patterns) for name, patterns in self.claims.items())
        )


def claim_text(value: object) -> str | None:
    """Return a claim as rules see it: text, a whole number or ``true``/``false`` as text; ``None`` for all else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) else None


def unbound(kind: Kind, claims: Mapping[str, Iterable[str]]) -> str | None:
    """Return why a rule with these ``claims`` binds nobody, ``None`` if it does bind its subject."""
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
        "the rule does not bind who asks, and a token for this audience can be had by everybody whom the issuer "
        f"knows; it needs {wanted}"
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
