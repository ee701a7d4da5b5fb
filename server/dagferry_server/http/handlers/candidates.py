"""``GET`` and ``POST /{deployment}/dags/candidates``: what a checker is to import, and what it found.

A checker runs code that others deploy. What it sends is bounded, and believed only about the candidate that it names.
"""

import hashlib
from contextlib import suppress

from aiohttp import web
from pydantic import ConfigDict, Field

from dagferry_core.names import version_sequence
from dagferry_core.protocol import FROM
from dagferry_server.deploys.checkers import greeting_of
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.verdict import Verdict
from dagferry_server.errors import RequestError, StoreError
from dagferry_server.http.answer import Answer
from dagferry_server.http.handlers.versions import Sent, send_bundle
from dagferry_server.http.json_body import JsonBody, read_json
from dagferry_server.http.long_poll import may_wait
from dagferry_server.http.models import json_response
from dagferry_server.http.negotiation import has_seen, not_modified
from dagferry_server.http.request_context import RequestContext

TAG_CHARACTERS = 32
MAX_VERDICT_BYTES = 1024 * 1024
"""The size of a verdict: 200 problems, each with a traceback of 4096 characters."""


class LiveAnswer(Answer):
    """The version that is live."""

    version: str = Field(description="The version.")
    digest: str = Field(description="The content: sha256 over the manifest.")


class CandidateAnswer(Answer):
    """A content that is to be checked."""

    id: str = Field(description="The id of the candidate.")
    base: str = Field(description="The version to compare with; empty: nothing was deployed.")
    digest: str = Field(description="The content: sha256 over the manifest.")
    created: int = Field(description="When it came, in seconds since the epoch (UTC).")


class CandidatesAnswer(Answer):
    """What is to be checked."""

    log_id: str = Field(description="The name of the deploy log.")
    live: LiveAnswer | None = Field(description="What is live; null if nothing is.")
    candidates: list[CandidateAnswer] = Field(description="What is to be checked, first in first out.")


class VerdictBody(JsonBody, Verdict):
    """What a checker found. Other keys are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class VerdictAnswer(Answer):
    """The verdict was stored."""


async def candidates(context: RequestContext) -> web.StreamResponse:
    """Send what is to be checked, unless the checker has seen it: then wait for a change, or answer 304."""
    deployment, checks = context.deployment, context.service.checks
    seen, greeting = context.request.headers.get("If-None-Match", ""), greeting_of(context.request.headers)
    with deployment.checking.checkers.visit(greeting), checks.polled(deployment):
        if greeting and greeting.leaving:
            await checks.leave(deployment, greeting.instance)
        elif greeting and not seen:
            await checks.renew(deployment)
        with suppress(StoreError):  # what is known is sent
            await checks.look(deployment)
        body, tag = await _listed(context)
        if not has_seen(seen, tag):
            return json_response(body, headers={"ETag": f'"{tag}"'})
        seconds = may_wait(context)
        if seconds > 0 and not (greeting and greeting.leaving):
            with context.waiting():
                await deployment.checking.polls.wait(seconds)
            body, tag = await _listed(context)
        return not_modified(tag) if has_seen(seen, tag) else json_response(body, headers={"ETag": f'"{tag}"'})


async def _listed(context: RequestContext) -> tuple[bytes, str]:
    """Return what is to be checked, and its tag; raise ``StoreError`` if what is live is not known.

    A checker compares with what is live in the same list, and its verdict counts for the base of the candidate. So a
    candidate is listed only if this server knows its base: another server may have made that live a moment ago.
    """
    deployment = context.deployment
    deployment.check_newest()
    # The server looks, rather than that the checker refuses and asks again: one look is enough to know the base, and
    # checkers of older releases cannot compare with another version either.
    if not all(_knows(deployment, each.base) for each in deployment.checking.notes.open):
        await context.service.following.look(deployment.name)
    deployment.check_newest()
    live = deployment.current
    answer = CandidatesAnswer(
        log_id=deployment.log_id,
        live=live and LiveAnswer(version=live.version, digest=live.digest),
        candidates=[
            CandidateAnswer(id=each.id, base=each.base, digest=each.digest, created=each.created)
            for each in deployment.checking.notes.open
            if _knows(deployment, each.base)
        ],
    )
    body = answer.model_dump_json().encode()
    return body, hashlib.sha256(body).hexdigest()[:TAG_CHARACTERS]


def _knows(deployment: Deployment, base: str) -> bool:
    """Return whether the newest deploy that is known here is ``base``, or came after it."""
    try:
        return not base or version_sequence(base) <= deployment.highest
    except ValueError:
        return False  # the note is damaged


async def candidate(context: RequestContext) -> web.StreamResponse:
    """Send the content of a candidate: a patch from the version that the checker has, or the whole bundle."""
    found = await context.service.checks.candidate(context.deployment, context.request.match_info["id"])
    with context.state.bundle_slots.hold(context.deployment.name, context.caller):
        return await send_bundle(context, Sent(f"candidate {found.id}", found.digest), context.request.query.get(FROM))


async def verdict(context: RequestContext) -> web.StreamResponse:
    """Store what a checker found."""
    id_ = context.request.match_info["id"]
    await context.service.checks.candidate(context.deployment, id_)  # before the body is read
    body = await read_json(context, VerdictBody, MAX_VERDICT_BYTES)
    context.note(candidate=id_, instance=body.instance, new_problems=body.new_problem_count, failed=body.failed)
    if not body.failed and not body.digest:
        raise RequestError("The verdict has neither the digest that was checked nor the reason why it failed.")
    await context.service.checks.decide(context.deployment, id_, body)
    return json_response(VerdictAnswer())
