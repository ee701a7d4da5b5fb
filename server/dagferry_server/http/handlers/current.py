"""``GET /{deployment}/dags/current``: the current deploy, or a long poll for the next one."""

from aiohttp import web

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
        if must_be_offered or not has_seen(headers.get("If-None-Match", ""), tag):
            return _answer(context, visit)
        seconds = may_wait(context)
        if seconds > 0 and not (report and report.deregister):
            with context.waiting():
                await deployment.waiters.wait(seconds)
            deployment.check_newest()
        if deployment.tag != tag:
            return _answer(context, visit)
        return not_modified(tag)


def _answer(context: RequestContext, visit: Visit) -> web.Response:
    deployment = context.deployment
    visit.offer(Offer(deployment.log_id, deployment.tag))
    return json_response(context.state.current_answers.of(deployment), headers={"ETag": f'"{deployment.tag}"'})
