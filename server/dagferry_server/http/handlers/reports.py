"""``POST /{deployment}/dags/reports``: what a dag processor says of what Airflow has read, and which runs need what."""

from aiohttp import web

from dagferry_core.errors import DagferryError
from dagferry_core.protocol import MAX_REPORT_BYTES, REPORT_SECONDS
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.cleaning import MAX_NAME_CHARACTERS, clean
from dagferry_server.fleet.holders import holder_name
from dagferry_server.fleet.report_body import ReportBody
from dagferry_server.fleet.reporters import MAX_REPORTERS, reported
from dagferry_server.http.json_body import read_json
from dagferry_server.http.models import json_response
from dagferry_server.http.parsed_answers import ReportAnswer
from dagferry_server.http.request_context import RequestContext
from dagferry_server.parsed_metrics import REPORT_COUNTED, REPORT_IGNORED, REPORT_LEFT, REPORT_REJECTED


async def reports(context: RequestContext) -> web.StreamResponse:
    """Remember what a reporter says, and renew its leases; answer when to report again.

    A report about another log is ignored: its versions may have the names of other ones here.
    """
    deployment, counter = context.deployment, context.service.metrics.parsed.reports
    try:
        with context.state.report_slots.hold(deployment.name, context.caller):
            report = await read_json(context, ReportBody, MAX_REPORT_BYTES)
        if not deployment.loaded:
            deployment.check_newest()
    except DagferryError:
        counter.labels(deployment.name, REPORT_REJECTED).inc()
        raise
    if context.caller.pod:
        report = report.model_copy(update={"instance": clean(context.caller.pod, MAX_NAME_CHARACTERS)})
    ignored = _ignored(deployment, report) or _record(context, report)
    outcome = REPORT_IGNORED if ignored else REPORT_LEFT if report.leaving else REPORT_COUNTED
    counter.labels(deployment.name, outcome).inc()
    if report.leases and report.log_id == deployment.log_id:
        # Also without room for the reporter: the versions that its runs need must stay.
        holder = holder_name(report.component, report.instance, report.id)
        await context.service.leases.renew(deployment.name, holder, report.leases.versions)
    current = None if deployment.fault else deployment.current
    return json_response(
        ReportAnswer(
            log_id=deployment.log_id,
            version=current.version if current else "",
            report_seconds=REPORT_SECONDS,
            ignored=ignored,
        )
    )


def _ignored(deployment: Deployment, report: ReportBody) -> str | None:
    if report.log_id == deployment.log_id:
        return None
    return (
        f"The report is about the deploy log {report.log_id}, and {deployment.name} has the log {deployment.log_id}: "
        "report about what you have of that one."
    )


def _record(context: RequestContext, report: ReportBody) -> str | None:
    fleet = context.deployment.fleet
    now, wall = fleet.clock(), context.service.clock()
    if fleet.reporters.record(reported(report, now, wall)):
        return None
    return f"{MAX_REPORTERS} others report for {context.deployment.name}, and there is no room for another one."
