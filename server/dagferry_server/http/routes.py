"""The table of routes: the server, ``/openapi.json``, the docs and the access rules come from it."""

import functools
import json

from aiohttp import web

from dagferry_core.errors import DagferryError
from dagferry_core.protocol import (
    ARCHIVE_TYPE,
    BEFORE,
    BUNDLE_TYPE,
    CANDIDATE_PATH,
    CANDIDATES_PATH,
    CHECKER_HEADERS,
    CURRENT_PATH,
    DEPLOY_PATH,
    DEPLOYMENT_PATH,
    DEPLOYMENTS_PATH,
    DEPLOYS_PATH,
    DIFF_PATH,
    DOWNLOAD_PATH,
    FILE_PATH,
    FILE_TYPE,
    FILES_PATH,
    FREEZE_PATH,
    FROM,
    JSON_TYPE,
    LIMIT,
    PATCH_TYPE,
    REPORTS_PATH,
    REQUEST_HEADERS,
    RETAINED,
    STATUS_PATH,
    TO,
    VERSION,
    VERSION_PATH,
    WHOAMI_PATH,
)
from dagferry_server.errors import (
    BodyTooLarge,
    BundleGone,
    CandidateGone,
    DeploymentConfigured,
    FileNotInBundle,
    NothingDeployed,
    RequestError,
    ShuttingDown,
    StoreAway,
    StoreDamaged,
    StoreFull,
    TooManyDeployments,
    TooManyDownloads,
    TooManyReports,
    UploadIncomplete,
    UploadTooSlow,
    VersionNotFound,
)
from dagferry_server.fleet.report_body import ReportBody
from dagferry_server.http.astro_routes import astro_routes
from dagferry_server.http.deploy_routes import DEPLOY_ROUTES
from dagferry_server.http.handlers.candidates import (
    CandidatesAnswer,
    VerdictAnswer,
    VerdictBody,
    candidate,
    candidates,
    verdict,
)
from dagferry_server.http.handlers.current import current
from dagferry_server.http.handlers.deployments import create, delete, deployments
from dagferry_server.http.handlers.deploys import MAX_PAGE_DEPLOYS, PAGE_DEPLOYS, deploy, deploys
from dagferry_server.http.handlers.diff import diff
from dagferry_server.http.handlers.download import download
from dagferry_server.http.handlers.files import file, files
from dagferry_server.http.handlers.freeze import FreezeBody, freeze, unfreeze
from dagferry_server.http.handlers.health import healthz, metrics, readyz
from dagferry_server.http.handlers.reports import reports
from dagferry_server.http.handlers.status import status
from dagferry_server.http.handlers.versions import version
from dagferry_server.http.handlers.whoami import whoami
from dagferry_server.http.models import (
    CreateAnswer,
    CurrentAnswer,
    DeleteAnswer,
    DeploymentsAnswer,
    DeploysAnswer,
    DiffAnswer,
    FilesAnswer,
    FleetStatusAnswer,
    FreezeAnswer,
    OneDeployAnswer,
    StatusAnswer,
    WhoamiAnswer,
    json_response,
)
from dagferry_server.http.openapi import describe
from dagferry_server.http.parsed_answers import ReportAnswer
from dagferry_server.http.peer_routes import PEER_ROUTES
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.routing import Parameter, Route

_READ_ERRORS: tuple[type[DagferryError], ...] = (
    RequestError,
    BundleGone,
    TooManyDownloads,
    StoreAway,
    StoreDamaged,
    StoreFull,
)


async def _openapi(context: RequestContext) -> web.StreamResponse:
    return json_response(_described(context.service.settings.astro_cli))


@functools.cache
def _described(astro_cli: str | None) -> bytes:
    return json.dumps(describe((*ROUTES, *astro_routes(astro_cli)))).encode()


ROUTES: tuple[Route, ...] = (
    *DEPLOY_ROUTES,
    Route(
        method="GET",
        path=CURRENT_PATH,
        scope="sync",
        handler=current,
        summary="The current deploy; given the version last seen, wait for the next deploy.",
        answer=CurrentAnswer,
        errors=(StoreAway, StoreDamaged, StoreFull),
        not_modified=True,
        parameters=tuple(Parameter(name, "header", meaning) for name, meaning in REQUEST_HEADERS.items()),
    ),
    Route(
        method="GET",
        path=VERSION_PATH,
        scope="sync",
        or_scope="check",
        handler=version,
        summary="A bundle in canonical form, or a patch from the version given as `from`.",
        answer=(BUNDLE_TYPE, PATCH_TYPE),
        errors=(VersionNotFound, *_READ_ERRORS),
        parameters=(
            Parameter(
                FROM, "query", "The version that the caller has; if no patch from it exists, the bundle is sent."
            ),
            Parameter(
                RETAINED,
                "header",
                "The digest of a tree that the caller still has beside that version. If it is the digest of what is "
                "requested, a patch may name contents without having them.",
            ),
        ),
        sends_content=True,
    ),
    Route(
        method="GET",
        path=CANDIDATES_PATH,
        scope="check",
        handler=candidates,
        summary="What a checker is to import before it is deployed; given the list last seen, wait for another one.",
        answer=CandidatesAnswer,
        errors=(StoreAway, StoreDamaged, StoreFull),
        not_modified=True,
        parameters=tuple(Parameter(name, "header", meaning) for name, meaning in CHECKER_HEADERS.items()),
    ),
    Route(
        method="GET",
        path=CANDIDATE_PATH,
        scope="check",
        handler=candidate,
        summary="A candidate in canonical form, or a patch from the version given as `from`.",
        answer=(BUNDLE_TYPE, PATCH_TYPE),
        errors=(CandidateGone, *_READ_ERRORS),
        parameters=(Parameter(FROM, "query", "The version that the caller has, as for a version."),),
        sends_content=True,
    ),
    Route(
        method="POST",
        path=CANDIDATE_PATH,
        scope="check",
        handler=verdict,
        summary="What a checker found in a candidate.",
        answer=VerdictAnswer,
        errors=(BodyTooLarge, CandidateGone, UploadIncomplete, UploadTooSlow, StoreAway, StoreFull),
        body=VerdictBody,
    ),
    Route(
        method="GET",
        path=DOWNLOAD_PATH,
        scope="read",
        handler=download,
        summary="A bundle as a tar.gz that can be uploaded again.",
        answer=(ARCHIVE_TYPE,),
        errors=(NothingDeployed, VersionNotFound, *_READ_ERRORS),
        parameters=(Parameter(VERSION, "query", "The version; if absent, the current one."),),
        sends_content=True,
    ),
    Route(
        method="GET",
        path=FILES_PATH,
        scope="read",
        handler=files,
        summary="The files of a version: path, size, mode and sha256 of each.",
        answer=FilesAnswer,
        errors=(VersionNotFound, *_READ_ERRORS),
        parameters=(
            Parameter("If-None-Match", "header", "The ETag last seen: the digest in quotes."),
            Parameter("Accept-Encoding", "header", "With `gzip`, the answer is compressed."),
        ),
        not_modified=True,
    ),
    Route(
        method="GET",
        path=FILE_PATH,
        scope="read",
        handler=file,
        summary="One file of a version, as it is; in the path, everything but its slashes is percent-encoded.",
        answer=(FILE_TYPE,),
        errors=(VersionNotFound, FileNotInBundle, *_READ_ERRORS),
        parameters=(Parameter("If-None-Match", "header", "The ETag last seen: the file's sha256 in quotes."),),
        not_modified=True,
        sends_content=True,
    ),
    Route(
        method="GET",
        path=DIFF_PATH,
        scope="read",
        handler=diff,
        summary="Which files differ between two versions.",
        answer=DiffAnswer,
        errors=(NothingDeployed, VersionNotFound, *_READ_ERRORS),
        parameters=(
            Parameter(FROM, "query", "The old version; if absent, the deploy that precedes `to`."),
            Parameter(TO, "query", "The new version; if absent, the current one."),
        ),
    ),
    Route(
        method="GET",
        path=DEPLOYS_PATH,
        scope="read",
        handler=deploys,
        summary="The deploy log, newest first, in pages.",
        answer=DeploysAnswer,
        errors=(RequestError, StoreAway, StoreFull),
        parameters=(
            Parameter(LIMIT, "query", f"1 to {MAX_PAGE_DEPLOYS} deploys, {PAGE_DEPLOYS} if absent.", "integer"),
            Parameter(BEFORE, "query", "Only deploys below this sequence.", "integer"),
        ),
    ),
    Route(
        method="GET",
        path=DEPLOY_PATH,
        scope="read",
        handler=deploy,
        summary="One deploy with its warnings, excluded and changed paths.",
        answer=OneDeployAnswer,
        errors=(RequestError, VersionNotFound, StoreAway, StoreFull),
    ),
    Route(
        method="POST",
        path=FREEZE_PATH,
        scope="admin",
        handler=freeze,
        summary="Freeze: reject deploys, for a reason, until a time or until it is lifted.",
        answer=FreezeAnswer,
        errors=(UploadIncomplete, UploadTooSlow, StoreFull, StoreAway),
        body=FreezeBody,
    ),
    Route(
        method="DELETE",
        path=FREEZE_PATH,
        scope="admin",
        handler=unfreeze,
        summary="Lift the freeze, if there is one.",
        answer=FreezeAnswer,
        errors=(StoreFull, StoreAway),
    ),
    Route(
        method="GET",
        path=DEPLOYMENTS_PATH,
        scope="any",
        handler=deployments,
        summary="The deployments that the caller may see.",
        answer=DeploymentsAnswer,
        errors=(StoreFull, StoreAway),
    ),
    Route(
        method="POST",
        path=DEPLOYMENT_PATH,
        scope="admin",
        handler=create,
        summary="Create a deployment, with the default settings.",
        answer=CreateAnswer,
        errors=(DeploymentConfigured, TooManyDeployments, StoreFull, StoreAway, StoreDamaged),
        creates=True,
    ),
    Route(
        method="DELETE",
        path=DEPLOYMENT_PATH,
        scope="admin",
        handler=delete,
        summary="Delete a deployment that was created by a request.",
        answer=DeleteAnswer,
        errors=(DeploymentConfigured, StoreFull, StoreAway),
    ),
    Route(
        method="GET",
        path=WHOAMI_PATH,
        scope="any",
        handler=whoami,
        summary="Who the caller is, and what the caller may do.",
        answer=WhoamiAnswer,
        errors=(StoreFull, StoreAway),
    ),
    Route(
        method="GET",
        path=STATUS_PATH,
        scope="read",
        handler=status,
        summary="Whether every pod has the newest deploy live; given the status last seen, wait for another one.",
        answer=FleetStatusAnswer,
        not_modified=True,
        parameters=(
            Parameter("If-None-Match", "header", "The ETag last seen."),
            Parameter("Prefer", "header", REQUEST_HEADERS["Prefer"]),
        ),
    ),
    Route(
        method="POST",
        path=REPORTS_PATH,
        scope="sync",
        handler=reports,
        summary="What a dag processor says of what Airflow has read of which version.",
        answer=ReportAnswer,
        errors=(
            RequestError,
            BodyTooLarge,
            TooManyReports,
            UploadIncomplete,
            UploadTooSlow,
            StoreFull,
            StoreAway,
            StoreDamaged,
        ),
        body=ReportBody,
        only_reads=True,
    ),
    Route(
        method="GET",
        path="/healthz",
        scope=None,
        handler=healthz,
        summary="The process is alive.",
        answer=StatusAnswer,
        admin=True,
    ),
    Route(
        method="GET",
        path="/readyz",
        scope=None,
        handler=readyz,
        summary="The store is writable, and the newest deploy of every deployment is known.",
        answer=StatusAnswer,
        errors=(ShuttingDown, StoreFull, StoreAway),
        admin=True,
        public=False,
    ),
    Route(
        method="GET",
        path="/metrics",
        scope=None,
        handler=metrics,
        summary="Metrics for Prometheus.",
        answer=("text/plain",),
        admin=True,
        public=False,
    ),
    Route(
        method="GET",
        path="/openapi.json",
        scope=None,
        handler=_openapi,
        summary="The OpenAPI description.",
        answer=(JSON_TYPE,),
        admin=True,
        public=False,
    ),
)
"""Every endpoint, but those of ``--astro-cli`` and ``--peers``."""


def documented() -> list[tuple[str, str, str, str]]:
    """Return endpoint, scope, listeners and summary of every route, for the docs."""
    return [
        (
            f"`{route.method} {route.path}`",
            " or ".join(scope for scope in (route.scope, route.or_scope) if scope),
            " and ".join(name for name, has in (("public", route.public), ("admin", route.admin)) if has),
            route.summary,
        )
        for route in (*ROUTES, *astro_routes("/astro"), *PEER_ROUTES)
    ]
