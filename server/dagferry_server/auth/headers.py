"""The credentials in a request's headers, as they were sent."""

from multidict import CIMultiDict, CIMultiDictProxy

from dagferry_server.errors import CredentialsRefused

Headers = CIMultiDict[str] | CIMultiDictProxy[str]
"""The headers of a request; each may occur more than once."""


def bearer(headers: Headers) -> str | None:
    """Return the token in ``Authorization``, bare (as the ``astro`` CLI sends it) or after ``Bearer``.

    ``None`` if there is no such header; raises ``CredentialsRefused`` if it occurs twice, is empty or of another kind.
    """
    sent = headers.getall("Authorization", [])
    if not sent:
        return None
    words = sent[0].split()
    if len(sent) > 1:
        raise CredentialsRefused("The request has more than one Authorization header.")
    if words and words[0].lower() == "bearer":
        words = words[1:]
    if not words:
        raise CredentialsRefused(
            "The Authorization header contains no token.", "Check the variable that it comes from."
        )
    if len(words) > 1:
        raise CredentialsRefused("The Authorization header must be a token, or Bearer and a token.")
    return words[0]
