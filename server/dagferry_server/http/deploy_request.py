"""What the requests that deploy share: their parameters and headers, and what is checked before a body is read."""

import re

from pydantic import Field, ValidationError

from dagferry_core.protocol import (
    ALLOW_REMOVALS,
    DRY_RUN,
    GIT,
    IF_MATCH,
    MAX_GIT_BYTES,
    OVERRIDE_FREEZE,
    SET,
    SKIP_GATE,
    SKIP_IMPORT_CHECK,
)
from dagferry_server.auth.access import authorize_write
from dagferry_server.deploys.preconditions import refuse_closed
from dagferry_server.deploys.request import ANY_VERSION, DeployRequest
from dagferry_server.errors import Forbidden, RequestError, ShuttingDown
from dagferry_server.http.json_body import JsonBody, problems
from dagferry_server.http.request_context import RequestContext

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"'
_TAGS = re.compile(rf"[ \t]*{_TAG}(?:[ \t]*,[ \t]*{_TAG})*[ \t]*")
_STRONG = re.compile(r'(W/)?"([^"]*)"')
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


class Git(JsonBody):
    """Where the content of a deploy comes from."""

    commit: str = Field(default="", max_length=200, pattern=_PLAIN)
    branch: str = Field(default="", max_length=500, pattern=_PLAIN)
    author: str = Field(default="", max_length=500, pattern=_PLAIN)
    repository: str = Field(default="", max_length=500, pattern=_PLAIN)
    url: str = Field(default="", max_length=2000, pattern=_PLAIN)
    image: str = Field(default="", max_length=200, pattern=_PLAIN)


async def deploy_request(
    context: RequestContext, under: str | None = "", *, override_freeze: bool = False
) -> DeployRequest:
    """Return what a request asks for by its parameters and headers.

    ``under`` is the folder that it is for. ``None``: its body says that, and then ``authorize_write`` is to be called.
    A body may also say ``override_freeze``.
    Raises ``ShuttingDown``, ``Forbidden``, ``RequestError``, ``StoreError``, and the error of a deployment to which
    nothing may be deployed now.
    """
    if context.service.stopping:
        raise ShuttingDown("The server is stopping.")
    deployment, caller = context.deployment, context.caller
    request = DeployRequest(
        actor=caller.actor,
        if_match=if_match(context.request.headers.getall(IF_MATCH, [])),
        dry_run=_is_set(context, DRY_RUN),
        skip_gate=_is_set(context, SKIP_GATE),
        allow_removals=_is_set(context, ALLOW_REMOVALS),
        skip_import_check=_is_set(context, SKIP_IMPORT_CHECK),
        override_freeze=override_freeze or _is_set(context, OVERRIDE_FREEZE),
        under=under or "",
    )
    context.note(under=request.under, flags=request.flags, dry_run=request.dry_run or None)
    if request.flags and "override" not in caller.scopes(deployment.name):
        raise Forbidden(
            f"{request.flags[0]} requires the scope 'override' on {deployment.name!r}, which {caller.actor!r} does not "
            "have.",
            f"Deploy without {request.flags[0]}, or ask the server's operator for this scope.",
        )
    if under is not None:
        authorize_write(deployment.name, under, caller)
    request = request._replace(gate=caller.gate(deployment.name, request.under))
    now = context.service.clock()
    await deployment.recheck_freeze(now)
    refuse_closed(deployment, request, now)
    if not deployment.loaded:
        deployment.check_newest()
    return request


def _is_set(context: RequestContext, name: str) -> bool:
    values = context.request.query.getall(name, [])
    if any(value != SET for value in values):
        raise RequestError(f"{name} has another value than {SET}.", f"Write {name}={SET}, or leave {name} out.")
    return bool(values)


def if_match(headers: list[str]) -> frozenset[str] | None:
    """Return the versions that ``If-Match`` (RFC 9110 §13.1.1) lists; ``None`` if there is no such header.

    Weak tags match nothing, as the strong comparison has it. Raises ``RequestError`` if the header is malformed.
    """
    if not headers:
        return None
    text = ", ".join(headers)
    if text.strip() == "*":
        return frozenset({ANY_VERSION})
    if not _TAGS.fullmatch(text):
        raise RequestError(
            f"The header {IF_MATCH}: {text[:80]} is malformed.",
            f'It has the expected version in double quotes, as in {IF_MATCH}: "20261120T064501Z-000042".',
        )
    return frozenset(tag for weak, tag in _STRONG.findall(text) if not weak)


def read_git(text: str | None) -> dict[str, str] | None:
    """Return where a content comes from, as the parameter ``git`` says it; ``RequestError`` if that is malformed."""
    if not text:
        return None
    if len(text.encode(errors="replace")) > MAX_GIT_BYTES:
        raise RequestError(f"{GIT} has more than {MAX_GIT_BYTES:,} bytes.")
    try:
        git = Git.model_validate_json(text)
    except (ValidationError, UnicodeEncodeError) as error:
        found = problems(error) if isinstance(error, ValidationError) else "it is not Unicode"
        raise RequestError(
            f"{GIT} is not a JSON object of texts with the keys {', '.join(Git.model_fields)}: {found}."
        ) from None
    return {name: value for name, value in git.model_dump().items() if value} or None
