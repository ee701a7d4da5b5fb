"""Verifies a JWT against the trusted issuers and their rules (RFC 7519, RFC 8725), and returns its caller.

Nothing in a token is trusted before its signature is verified, except which issuer's keys to verify it with. The errors
say what is wrong, because the owner of a CI job has nothing else to go by, and never show the token.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jwt

from dagferry_server.auth.access import Caller
from dagferry_server.auth.issuers import Issuer
from dagferry_server.auth.keys import ALGORITHMS, FileKeys, IssuerKeys
from dagferry_server.auth.rules import Kind, claim_text
from dagferry_server.errors import CredentialsRefused

LEEWAY_SECONDS = 60
"""How far the clocks of the issuer and the server may differ."""
MAX_JWT_CHARACTERS = 16 * 1024
MAX_ACTOR_CHARACTERS = 300
MAX_EXPIRY = 1 << 40
"""The latest expiry of a token, in seconds since the epoch: some 30,000 years. A later one is reduced to it, because
integers in JSON are unbounded, but times are not."""
REQUIRED_CLAIMS = ("iss", "aud", "sub", "exp", "iat")

_ACTOR_CLAIMS: Mapping[Kind, tuple[str, ...]] = {
    "github": ("repository", "run_id"),
    "gitlab": ("project_path", "job_id"),
}
"""Claims that identify the CI run that deployed; the subject may be customized to contain less."""


class TrustedIssuer(NamedTuple):
    """An issuer and its keys."""

    issuer: Issuer
    keys: IssuerKeys | FileKeys


def is_jwt(credentials: str) -> bool:
    """Return whether ``credentials`` have the form of a JWT: three parts separated by dots."""
    return credentials.count(".") == 2 and len(credentials) <= MAX_JWT_CHARACTERS  # noqa: PLR2004


async def jwt_caller(trusted: Sequence[TrustedIssuer], token: str) -> Caller:
    """Return the caller with ``token``.

    Raises ``CredentialsRefused`` with what is wrong, ``IssuerUnavailable`` if the token cannot be verified now.
    """
    try:
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _refused(f"The token is not a valid JWT: {error}.") from None
    algorithm, key_id = unverified["header"].get("alg"), unverified["header"].get("kid")
    if algorithm not in ALGORITHMS:
        raise _refused(f"The token's algorithm is {_quoted(algorithm)}; accepted algorithms: {', '.join(ALGORITHMS)}.")
    if not isinstance(key_id, str):
        raise _refused("The token has no key id (kid).")
    named = unverified["payload"].get("iss")
    issuer, keys = next((entry for entry in trusted if entry.issuer.issuer == named), (None, None))
    if issuer is None or keys is None:
        raise _refused(f"The token's issuer {_quoted(named)} is not trusted by this server.")
    claims = _verified(token, await keys.find(key_id, algorithm), issuer)
    grants = tuple(rule.grant for rule in issuer.rules if rule.allows(claims))
    actor = _actor(issuer, claims)
    if not grants:
        raise _refused(
            f"No rule for {issuer.name!r} matches this token: {actor}.", "Compare its claims with the rules."
        )
    return Caller(actor, grants, min(int(claims["exp"]), MAX_EXPIRY) + LEEWAY_SECONDS, pod=_pod(issuer, claims))


def _verified(token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, Any]:
    try:
        return jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": list(REQUIRED_CLAIMS), "enforce_minimum_key_length": True},
        )
    except jwt.InvalidSignatureError:
        raise _refused(f"The token is not signed by {issuer.name!r}.") from None
    except jwt.ExpiredSignatureError:
        raise _refused("The token has expired.") from None
    except jwt.ImmatureSignatureError:
        raise _refused("The token is not valid yet. Compare the clocks of its issuer and of this server.") from None
    except jwt.InvalidAudienceError:
        raise _refused(f"The token's audience is not {issuer.audience!r}.") from None
    except jwt.MissingRequiredClaimError as error:
        raise _refused(f"The token has no claim {error.claim!r}.") from None
    except (jwt.PyJWTError, ValueError, OverflowError) as error:  # OverflowError: an infinite time
        raise _refused(f"The token is not valid: {error}.") from None


def _actor(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    details = ((name, claim_text(claims.get(name))) for name in _ACTOR_CLAIMS.get(issuer.kind, ()))
    text = " ".join([f"{issuer.name}:{claims['sub']}", *(f"{name}={value}" for name, value in details if value)])
    # A log line must stay one line, whatever a branch name contains.
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_ACTOR_CHARACTERS])


def _pod(issuer: Issuer, claims: Mapping[str, Any]) -> str | None:
    """Return the name of the pod that a projected service account token is bound to; ``None`` if it names none."""
    about = claims.get("kubernetes.io") if issuer.kind == "kubernetes" else None
    pod = about.get("pod") if isinstance(about, dict) else None
    name = pod.get("name") if isinstance(pod, dict) else None
    return name if isinstance(name, str) and name else None


def _quoted(value: object) -> str:
    return repr(value)[:200]


def _refused(message: str, hint: str | None = None) -> CredentialsRefused:
    return CredentialsRefused(message, hint)
