"""Numbers in a query."""

import pytest
from aiohttp.test_utils import make_mocked_request

from dagferry_server.auth.access import ANYBODY
from dagferry_server.errors import RequestError
from dagferry_server.http.request_context import RequestContext


def call(query: str) -> RequestContext:
    request = make_mocked_request("GET", f"/x?{query}")
    return RequestContext(request, None, None, None, ANYBODY)  # type: ignore[arg-type]


def test_a_number_or_its_default() -> None:
    assert call("n=7").integer("n", 1, 0, 9) == 7
    assert call("").integer("n", 1, 0, 9) == 1


@pytest.mark.parametrize("text", ["", "x", "-1", "10", "1.5", "%20 1", "٣", "9" * 5000])
def test_anything_else_is_an_error(text) -> None:
    with pytest.raises(RequestError, match="whole number from 0 to 9"):
        call(f"n={text}").integer("n", 1, 0, 9)


def test_a_route_without_a_deployment_has_none() -> None:
    with pytest.raises(LookupError):
        _ = call("").deployment
