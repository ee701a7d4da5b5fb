"""The table of routes: the server, ``/openapi.json``, the docs and the access rules come from it."""

import functools
import json

from aiohttp import web

from dagferry_core.protocol import (
    ARCHIVE_TYPE,
    BEFORE,
    BUNDLE_TYPE,
    CURRENT_PATH,
    DEPLOY_PATH,
    DEPLOYS_PATH,
    DOWNLOAD_PATH,
    FROM,
    JSON_TYPE,
    LIMIT,
    PATCH_TYPE,
    REQUEST_HEADERS,
    RETAINED,
    VERSION_PATH,
)
from dagferry_server.errors import (
    BundleGone,
    NothingDeployed,
    RequestError,
    ShuttingDown,
    StoreAway,
    StoreDamaged,
    StoreFull,
    TooManyDownloads,
    VersionNotFound,
)
from dagferry_server.http.deploy_routes import DEPLOY_ROUTES
from dagferry_server.http.handlers.current import current
from dagferry_server.http.handlers.deploys import MAX_PAGE_DEPLOYS, PAGE_DEPLOYS, deploy, deploys
from dagferry_server.http.handlers.download import download
from dagferry_server.http.handlers.health import healthz, metrics, readyz
from dagferry_server.http.handlers.versions import version
from dagferry_server.http.models import (
    CurrentAnswer,
    DeploysAnswer,
    OneDeployAnswer,
    StatusAnswer,
    json_response,
)
from dagferry_server.http.openapi import describe
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.routing import Parameter, Route


async def _openapi(context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - every handler takes it
    return json_response(_described())


@functools.cache
def _described() -> bytes:
    return json.dumps(describe(ROUTES)).encode()


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
        handler=version,
        summary="A bundle in canonical form, or a patch from the version given as `from`.",
        answer=(BUNDLE_TYPE, PATCH_TYPE),
        errors=(RequestError, VersionNotFound, BundleGone, TooManyDownloads, StoreAway, StoreDamaged, StoreFull),
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
        path=DOWNLOAD_PATH,
        scope="read",
        handler=download,
        summary="The current bundle as a tar.gz.",
        answer=(ARCHIVE_TYPE,),
        errors=(NothingDeployed, BundleGone, TooManyDownloads, StoreAway, StoreDamaged, StoreFull),
        sends_content=True,
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
"""Every endpoint."""


def documented() -> list[tuple[str, str, str, str]]:
    """Return endpoint, scope, listeners and summary of every route, for the docs."""
    return [
        (
            f"`{route.method} {route.path}`",
            route.scope or "",
            " and ".join(name for name, has in (("public", route.public), ("admin", route.admin)) if has),
            route.summary,
        )
        for route in ROUTES
    ]
