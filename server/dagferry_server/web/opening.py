"""Whether the server has a web page: if its libraries are installed, unless ``--no-web`` is set."""

import asyncio
import logging

from dagferry_runtime.logs import fields
from dagferry_server.http.routing import Route
from dagferry_server.settings import Settings
from dagferry_server.web.routes import is_installed, page_routes

log = logging.getLogger(__name__)


async def open_pages(settings: Settings) -> tuple[Route, ...]:
    """Return the routes of the web page; none if there is no web page."""
    if settings.no_web:
        return ()
    if not is_installed():
        log.info("No web page", extra=fields(reason='install "dagferry[server,web]" for one'))
        return ()
    # Its libraries are loaded only by a server that has a web page.
    from dagferry_server.web.site import Site  # noqa: PLC0415

    site = await asyncio.to_thread(Site)
    site.threads.call(site.compile)
    return page_routes(site)
