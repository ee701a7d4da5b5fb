"""Signs people in with a token, and out again."""

from aiohttp import web

from dagferry_server.auth.browser import refuse_foreign_form
from dagferry_server.errors import CredentialsRefused, RequestError
from dagferry_server.http.admission import LOOPBACK_ONLY
from dagferry_server.http.request_context import CALLER, RequestContext
from dagferry_server.web.site import Site, see_other
from dagferry_server.web.visitors import (
    identify,
    is_own_page,
    read_fields,
    read_form,
    refuse_plain_http,
    refuse_unprotected_cookie,
    set_cookie,
)


async def sign_in_page(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show the form to sign in; to who is signed in already, the first page."""
    visitor = await identify(context.request)
    return see_other(context.request, "") if visitor.caller else site.sign_in(context.request)


async def sign_in(site: Site, context: RequestContext) -> web.StreamResponse:
    """Check the token in the form, and give the browser a cookie that stands for its entry.

    The form needs no word of its owner: it has none yet, and the token is a secret itself.
    """
    request, authenticator = context.request, context.service.authenticator
    refuse_foreign_form(request.headers, loopback_only=request.app[LOOPBACK_ONLY])
    refuse_plain_http(request)
    refuse_unprotected_cookie(request)
    fields = await read_fields(context)
    asked = fields.get("next", "")
    if fields.keys() - {"next", "token", "user"} or not is_own_page(asked):
        raise RequestError("The form has other fields than that of the page.")
    try:
        caller, cookie = authenticator.sign_in(fields.get("token", "").strip())
    except CredentialsRefused as error:
        context.refused(error)
        return site.sign_in(request, error.status, error, asked)
    request[CALLER] = caller
    response = see_other(request, asked)
    session = authenticator.session_caller(cookie)
    ends = session.expires if session and session.expires else 0
    set_cookie(request, response, cookie, max(0, int(ends - context.service.clock())))
    return response


async def sign_out(site: Site, context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - as all views
    """Take the cookie from the browser. What a session may do ends with its token, or after its time."""
    fields = await read_form(context)
    if fields:
        raise RequestError("The form has other fields than that of the page.")
    response = see_other(context.request, "sign-in")
    set_cookie(context.request, response, "", 0)
    return response
