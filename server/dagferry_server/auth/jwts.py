"""Checks a JWT against the trusted issuers and their rules (RFC 7519, RFC 8725), and says who calls with it.

Nothing of a token is believed before its signature is verified, except which issuer's keys to verify it with. The
errors name what is wrong, because a CI job's owner has nothing else to go by, and never show the token.
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
"""How far the clocks of issuer and server may be apart."""
MAX_JWT_CHARACTERS = 16 * 1024
MAX_ACTOR_CHARACTERS = 300
MAX_EXPIRY = 1 << 40
"""The end of a token that claims a later one, in seconds since the epoch: some 30,000 years. Integers in JSON have no
end, but times do."""
REQUIRED_CLAIMS = ("iss", "aud", "sub", "exp", "iat")

_ACTOR_CLAIMS: Mapping[Kind, tuple[str, ...]] = {
    "github": ("repository", "run_id"),
    "gitlab": ("project_path", "job_id"),
}
"""What finds the run that deployed; a subject may be cut down to less by its owner."""


class TrustedIssuer(NamedTuple):
    """An issuer and its keys."""

    issuer: Issuer
    keys: IssuerKeys | FileKeys


def is_jwt(credentials: str) -> bool:
    """Tell whether ``credentials`` have the form of a JWT: three parts between dots."""
    return credentials.count(".") == 2 and len(credentials) <= MAX_JWT_CHARACTERS  # noqa: PLR2004


async def jwt_caller(trusted: Sequence[TrustedIssuer], token: str) -> Caller:
    """Return who calls with ``token``.

    Raises ``CredentialsRefused`` with what is wrong, ``IssuerUnavailable`` if that cannot be told now.
    """
    try:
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _refused(f"The token is no JWT: {error}.") from None
    algorithm, key_id = unverified["header"].get("alg"), unverified["header"].get("kid")
    if algorithm not in ALGORITHMS:
        raise _refused(f"The token's algorithm is {_shown(algorithm)}; accepted are {', '.join(ALGORITHMS)}.")
    if not isinstance(key_id, str):
        raise _refused("The token does not say which key it is signed with (kid).")
    named = unverified["payload"].get("iss")
    issuer, keys = next((entry for entry in trusted if entry.issuer.issuer == named), (None, None))
    if issuer is None or keys is None:
        raise _refused(f"The token's issuer {_shown(named)} is none that this server trusts.")
    claims = _verified(token, await keys.find(key_id, algorithm), issuer)
    grants = tuple(rule.grant for rule in issuer.rules if rule.allows(claims))
    actor = _actor(issuer, claims)
    if not grants:
        raise _refused(f"No rule for {issuer.name!r} matches this token: {actor}.", "Compare its claims to the rules.")
    return Caller(actor, grants, min(int(claims["exp"]), MAX_EXPIRY) + LEEWAY_SECONDS)


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
        raise _refused(f"The token is for another audience than {issuer.audience!r}.") from None
    except jwt.MissingRequiredClaimError as error:
        raise _refused(f"The token lacks the claim {error.claim}.") from None
    except (jwt.PyJWTError, ValueError, OverflowError) as error:  # the last: a time that is infinite
        raise _refused(f"The token is not valid: {error}.") from None


def _actor(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    details = ((name, claim_text(claims.get(name))) for name in _ACTOR_CLAIMS.get(issuer.kind, ()))
    text = " ".join([f"{issuer.name}:{claims['sub']}", *(f"{name}={value}" for name, value in details if value)])
    # A log line must stay one line, whatever an issuer lets people put into a branch's name.
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_ACTOR_CHARACTERS])


def _shown(value: object) -> str:
    return repr(value)[:200]


def _refused(message: str, hint: str | None = None) -> CredentialsRefused:
    return CredentialsRefused(message, hint)
