"""``GET /{deployment}/dags/current``: the current deploy, or a long poll for the next one.

The answer also tells a follower which entry this server has for the deploy that the follower has live: it compares the
hash with the one that it remembers (docs/adr/0040).
"""

from collections.abc import Mapping

from aiohttp import web

from dagferry_core.names import version_sequence
from dagferry_core.protocol import ENTRY, LIVE, LOG
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.fleet import Visit
from dagferry_server.fleet.sidecars import Offer, Report
from dagferry_server.http.half_closed import AnsweringConnection
from dagferry_server.http.long_poll import may_wait
from dagferry_server.http.models import json_response
from dagferry_server.http.negotiation import has_seen, newest_seen, not_modified
from dagferry_server.http.reports import report_of
from dagferry_server.http.request_context import RequestContext


async def current(context: RequestContext) -> web.StreamResponse:
    """Send the current deploy, unless the caller has seen it: then wait for a change, or answer 304."""
    report = report_of(context.request.headers, context.caller.pod)
    answer = await _current(context, report)
    if report and _is_older_than_a_peer(context):
        answer.force_close()  # the next connection may lead to that server, so that each has its share again
    return answer


def _is_older_than_a_peer(context: RequestContext) -> bool:
    peers, connection = context.service.peers, context.request.protocol
    return peers is not None and isinstance(connection, AnsweringConnection) and connection.opened < peers.grown_at


async def _current(context: RequestContext, report: Report | None) -> web.Response:
    deployment, headers = context.deployment, context.request.headers
    with deployment.fleet.visit(report) as visit:
        # It may have it from another server: an older one would be a step back.
        await deployment.catch_up(newest_seen(headers.get("If-None-Match", "")))
        # Before and after the wait: while there may be a newer deploy, neither an older one nor 304 is correct.
        deployment.check_newest()
        tag = deployment.tag
        # What a pod claims counts only after an offer, so it is offered the version even if it has seen it.
        must_be_offered = visit.must_be_offered(Offer(deployment.log_id, tag))
        if must_be_offered or _has_other(headers, deployment) or not has_seen(headers.get("If-None-Match", ""), tag):
            return await _answer(context, visit)
        seconds = may_wait(context)
        if seconds > 0 and not (report and report.deregister):
            with context.waiting():
                await deployment.waiters.wait(seconds)
            deployment.check_newest()
        if deployment.tag != tag:
            return await _answer(context, visit)
        return not_modified(tag, await _entry(deployment, headers))


def _has_other(headers: Mapping[str, str], deployment: Deployment) -> bool:
    """Return whether the caller has a version live that has the name of the current one, and is of another log."""
    return headers.get(LIVE) == deployment.tag and headers.get(LOG, deployment.log_id) != deployment.log_id


async def _answer(context: RequestContext, visit: Visit) -> web.Response:
    deployment = context.deployment
    entry = await _entry(deployment, context.request.headers)
    visit.offer(Offer(deployment.log_id, deployment.tag))
    headers = {"ETag": f'"{deployment.tag}"', **entry}
    return json_response(context.state.current_answers.of(deployment), headers=headers)


async def _entry(deployment: Deployment, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the header about the entry of the deploy that the caller has live; empty if there is nothing to say."""
    if headers.get(LOG) != deployment.log_id:
        return {}
    try:
        sequence = version_sequence(headers.get(LIVE, ""))
    except ValueError:
        return {}
    entry = await deployment.entry_at(sequence)
    if entry is None:
        return {}
    ends_before = deployment.is_shared and entry.sequence < sequence
    words = (str(entry.sequence), entry.sha256, "shared" if ends_before else "")
    return {ENTRY: " ".join(word for word in words if word)}
