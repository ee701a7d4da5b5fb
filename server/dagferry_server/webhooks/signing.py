"""How a message is signed, so that its receiver knows who sent it and when. Pure.

This is the scheme of the specification "Standard Webhooks" (``v1``): HMAC-SHA256 over the id, the time and the body.
There are libraries for it in many languages, and docs/how-to/webhooks.md shows it in a few lines.
"""

import base64
import binascii
import hmac

from dagferry_core.errors import SetupError

SECRET_PREFIX = "whsec_"  # noqa: S105 - what follows it is the secret
MIN_SECRET_BYTES = 16


def secret_bytes(text: bytes, path: str) -> bytes:
    """Return the secret in a file's content: after ``whsec_`` it is base64, otherwise the text itself.

    Raises ``SetupError``, without the content, if there is none, or if it is too short to be one.
    """
    secret = text.strip()
    if secret.startswith(SECRET_PREFIX.encode()):
        try:
            secret = base64.b64decode(secret.removeprefix(SECRET_PREFIX.encode()), validate=True)
        except binascii.Error:
            raise SetupError(f"{path} has something else than base64 after {SECRET_PREFIX}.") from None
    if len(secret) < MIN_SECRET_BYTES:
        raise SetupError(f"{path} contains no secret of at least {MIN_SECRET_BYTES} bytes.")
    return secret


def signature_headers(secret: bytes, identifier: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a signed message. ``timestamp``: seconds since the epoch."""
    signed = b".".join((identifier.encode(), str(timestamp).encode(), body))
    signature = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
