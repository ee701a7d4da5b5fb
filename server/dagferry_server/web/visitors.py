"""Who looks at a page: a cookie that was signed here, or whatever the API accepts; and the forms that they may send.

The cookie counts on the routes of the web page only, so no page of another origin can make a browser use the API with
it. Links from other sites show a page; what changes something needs a form of our own, with the word of its owner.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from dagferry_server.auth.access import Caller
from dagferry_server.auth.browser import names_loopback, refuse_embedding, refuse_foreign_form
from dagferry_server.errors import OriginRefused, RequestError
from dagferry_server.http.admission import LOOPBACK_ONLY
from dagferry_server.http.json_body import read_body
from dagferry_server.http.request_context import CALLER, SERVICE, RequestContext

COOKIE = "__Host-dagferry"
"""Browsers accept this name over https only, for this host only, and never from another one."""
LOOPBACK_COOKIE = "dagferry-{port}"
"""Its name on this machine without TLS, where browsers differ in whether they accept the other one. Cookies are not
separate for each port, so the port is in the name."""
FORM_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 20
WORD = "word"
"""The field of each form that proves that the page it is on was made for its owner."""
READS = {"GET", "HEAD"}
_STEP = r"(?!\.\.?(?:[/?]|$))[A-Za-z0-9._~%-]+"
_OWN_PAGE = re.compile(rf"(?!(?i:[^?]*%2e))deployments(?:/{_STEP})+(?:\?[A-Za-z0-9._~!$&'()*+,/:;=?@%-]*)?")
"""A path below the first page. To browsers, ``%2e%2e`` is ``..`` too."""


class Visitor(NamedTuple):
    """Who looks at a page. ``owner`` is whose forms these are; ``signed_in``: by a cookie, so signing out is possible.

    ``had_session``: the browser sent a cookie that does not count any more.
    """

    caller: Caller | None
    owner: str = ""
    signed_in: bool = False
    had_session: bool = False


NOBODY = Visitor(None)
VISITOR = web.RequestKey("VISITOR", Visitor)
"""The visitor of a request, once it was identified."""


async def identify(request: web.Request) -> Visitor:
    """Return who sent a request; raises what ``Authenticator.authenticate`` raises, and ``OriginRefused``."""
    authenticator = request.app[SERVICE].authenticator
    caller = await authenticator.authenticate(request.headers)
    visitor = Visitor(caller, caller.actor if caller else "")
    if caller is None and (cookie := request.cookies.get(cookie_name(request))):
        caller = authenticator.session_caller(cookie)
        visitor = Visitor(caller, cookie, signed_in=caller is not None, had_session=caller is None)
    request[VISITOR] = visitor
    if caller:
        request[CALLER] = caller
        if caller.by_browser:
            refuse = refuse_embedding if request.method in READS else refuse_foreign_form
            refuse(request.headers, loopback_only=request.app[LOOPBACK_ONLY])
    return visitor


def cookie_name(request: web.Request) -> str:
    """Return the name of the cookie that counts for a request."""
    return LOOPBACK_COOKIE.format(port=_port(request.host)) if _is_plain_loopback(request) else COOKIE


def _is_plain_loopback(request: web.Request) -> bool:
    return names_loopback(request.host) and not request.secure


def _port(host: str) -> str:
    return host.rpartition(":")[2] if ":" in host.rpartition("]")[2] else "80"


def set_cookie(request: web.Request, response: web.Response, value: str, seconds: int) -> None:
    """Give the browser a cookie for ``seconds``; 0 removes it.

    ``Lax``: a link in a chat leads to a page and not to the form to sign in; what changes something needs more anyway.
    """
    response.set_cookie(
        cookie_name(request),
        value,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=not _is_plain_loopback(request),
    )


def refuse_plain_http(request: web.Request) -> None:
    """Raise ``OriginRefused`` if a form with a token came over plain HTTP from another machine.

    A proxy may use HTTP towards us and https towards the browser, which says in ``Origin`` what it used.
    """
    origin = urlsplit(request.headers.get("Origin", ""))
    if origin.scheme == "http" and not names_loopback(origin.netloc):
        raise OriginRefused(
            "This page was opened over plain HTTP, so that others in the network can read the token, and no browser "
            "keeps the cookie that would follow.",
            "Open it over https (--tls-cert, or a proxy with TLS), or with kubectl port-forward at 127.0.0.1. Replace "
            "the token that you have just sent.",
        )


def refuse_unprotected_cookie(request: web.Request) -> None:
    """Raise ``OriginRefused`` if a proxy with TLS hides by which name the browser knows this server.

    The cookie would be the one for this machine, which other hosts of the domain can replace and plain HTTP betrays.
    """
    origin = urlsplit(request.headers.get("Origin", ""))
    if origin.scheme == "https" and not names_loopback(origin.netloc) and _is_plain_loopback(request):
        raise OriginRefused(
            f"The proxy in front of this server does not pass on the name in the browser's address: Host is "
            f"{request.host[:200]!r}. The cookie would not be protected by https.",
            "Let the proxy pass on Host (nginx: proxy_set_header Host $http_host), and sign in again.",
        )


def is_own_page(asked: str) -> bool:
    """Return whether signing in may lead to ``asked``: a page of ours, so no other site and no other endpoint."""
    return not asked or _OWN_PAGE.fullmatch(asked) is not None


async def read_form(context: RequestContext) -> dict[str, str]:
    """Return the fields of a form that a page of ours made for this visitor; ``OriginRefused`` if it did not."""
    fields = await read_fields(context)
    visitor = context.request.get(VISITOR, NOBODY)
    word = fields.pop(WORD, "")
    if not context.service.authenticator.sessions.is_form_word(visitor.owner, word):
        raise OriginRefused(
            "This form was made for another session: since you opened its page, you or another tab signed in again, or "
            "the server has a new key.",
            "Nothing was changed. Open the page again, check what it shows, and send its form.",
        )
    return fields


async def read_fields(context: RequestContext) -> dict[str, str]:
    """Return the fields of a form; ``RequestError`` if it is malformed or has a field twice."""
    request = context.request
    if request.content_type != FORM_TYPE:
        raise RequestError(f"The body has to be a form, with Content-Type: {FORM_TYPE}.")
    body = await read_body(context)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise RequestError("The form is malformed: it is not percent-encoded UTF-8, or has too many fields.") from error
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RequestError("The form has a field twice.")
    return fields


def form_word(request: web.Request) -> str:
    """Return the word for the forms on a page that is the answer to a request."""
    return request.app[SERVICE].authenticator.sessions.form_word(request.get(VISITOR, NOBODY).owner)
