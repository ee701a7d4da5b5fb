"""Small JSON bodies: read within limits of size and time, and checked against a model that refuses unknown keys."""

import asyncio
import time
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from dagferry_core.protocol import JSON_TYPE
from dagferry_server.errors import BodyTooLarge, RequestError, UploadIncomplete, UploadTooSlow
from dagferry_server.http.request_context import RequestContext

MAX_JSON_BYTES = 64 * 1024
MAX_JSON_SECONDS = 20.0
"""The size of a body, and how long it may take to arrive."""
MAX_SHOWN_PROBLEMS = 5


class JsonBody(BaseModel):
    """What all JSON bodies share: other keys and types than described are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


async def read_json(context: RequestContext, model: type[Model], max_bytes: int = MAX_JSON_BYTES) -> Model:
    """Return the body of a request as ``model``; ``max_bytes`` is how many bytes it may have.

    Raises ``RequestError`` if it is not such JSON, ``UploadTooSlow`` and ``UploadIncomplete``; ``BodyTooLarge`` if the
    endpoint allows more than usual, and the body has even more.
    """
    request = context.request
    if request.content_type != JSON_TYPE:
        sent = f"{request.content_type[:80]!r}" if "Content-Type" in request.headers else "none"
        raise RequestError(
            f"The body has to be JSON, with Content-Type: {JSON_TYPE}; the request has {sent}.",
            f"With curl: -H 'Content-Type: {JSON_TYPE}' -d '{{…}}'",
        )
    try:
        return model.model_validate_json(await read_body(context, max_bytes))
    except ValidationError as error:
        raise RequestError(f"The JSON body is invalid: {problems(error)}.") from None


async def read_body(context: RequestContext, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Return the body of a request; raises what ``read_json`` raises."""
    if (context.request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    context.body.send_continue()
    deadline = time.monotonic() + MAX_JSON_SECONDS
    body = bytearray()
    try:
        while piece := await asyncio.wait_for(context.request.content.readany(), deadline - time.monotonic()):
            body += piece
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except (TimeoutError, asyncio.TimeoutError) as error:
        context.body.abort()
        raise UploadTooSlow(f"The body did not arrive within {MAX_JSON_SECONDS:g} s.") from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise UploadIncomplete("The connection broke before the request was complete.") from error
    return bytes(body)


def _too_large(max_bytes: int) -> RequestError:
    # Stock clients of the small bodies expect a 400; what may be large has an error of its own.
    error = BodyTooLarge if max_bytes > MAX_JSON_BYTES else RequestError
    return error(f"The body has more than {max_bytes:,} bytes.")


def problems(error: ValidationError) -> str:
    """Return the first problems that a model found, in one line, without the values that were sent."""
    found = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False)[:MAX_SHOWN_PROBLEMS]:
        where = ".".join(str(part)[:40] for part in problem["loc"])
        found.append(f"{where!r}: {problem['msg']}" if where else problem["msg"])
    return "; ".join(found)
