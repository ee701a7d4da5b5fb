"""The routes of ``--astro-cli``, which exist only with that setting; see ``routes`` for the others."""

from dagferry_server.errors import UploadIncomplete, UploadTooSlow
from dagferry_server.http.handlers.astro import AstroBody, astro, token_page
from dagferry_server.http.models import AstroAnswer
from dagferry_server.http.routing import Route


def astro_routes(path: str | None) -> tuple[Route, ...]:
    """Return the routes below ``path``; none if it is ``None``."""
    if path is None:
        return ()
    return (
        Route(
            method="POST",
            path=path,
            scope=None,
            handler=astro,
            summary="What the astro CLI asks before it uploads, with its token; only with --astro-cli.",
            answer=AstroAnswer,
            errors=(UploadIncomplete, UploadTooSlow),
            body=AstroBody,
            only_reads=True,
        ),
        Route(
            method="GET",
            path=f"{path}/token",
            scope=None,
            handler=token_page,
            summary="What to paste when astro login asks for a token; only with --astro-cli.",
            answer=("text/plain",),
        ),
    )
