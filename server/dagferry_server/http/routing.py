"""The shape of the table of routes, and how a request finds its route."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, NamedTuple

from aiohttp import web
from pydantic import BaseModel

from dagferry_core.errors import DagferryError
from dagferry_server.auth.access import Scope
from dagferry_server.errors import MethodNotAllowed, RouteNotFound
from dagferry_server.http.request_context import RequestContext

Handler = Callable[[RequestContext], Awaitable[web.StreamResponse]]


class Parameter(NamedTuple):
    """A parameter of the query or a header, for the spec."""

    name: str
    place: Literal["query", "header"]
    description: str
    kind: Literal["string", "integer"] = "string"


class Route(NamedTuple):
    """One call: what it answers, which errors it may answer with, who may make it, and who handles it.

    ``answer`` is the model of its JSON, or the media types of what it sends. ``implied_deployment`` routes have a
    deployment that their path does not name. ``admin`` routes are on the admin listener. ``sends_content`` are
    those that send what somebody deployed.
    """

    method: Literal["GET", "POST"]
    path: str
    scope: Scope | None
    handler: Handler
    summary: str
    answer: type[BaseModel] | tuple[str, ...]
    errors: tuple[type[DagferryError], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    implied_deployment: bool = False
    admin: bool = False
    public: bool = True
    not_modified: bool = False
    takes_file: bool = False
    sends_content: bool = False


class Table:
    """Routes by the number of segments of their path; a segment in braces stands for any one."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        for route in routes:
            segments = tuple(route.path.split("/"))
            self._routes.setdefault(len(segments), []).append((segments, route))

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route of a request and the parts of its path; ``RouteNotFound``, ``MethodNotAllowed``.

        HEAD finds the route of GET (RFC 9110 §9.3.2).
        """
        found = self._matches(path)
        for route, parts in found:
            if route.method == ("GET" if method == "HEAD" else method):
                return route, parts
        if found:
            raise MethodNotAllowed(f"{method[:20]} is not allowed here.", f"Use {self.allowed(path)}.")
        raise RouteNotFound(f"There is no call {method[:20]} {path[:200]}.")

    def allowed(self, path: str) -> str:
        """Return the methods of a path, as the header ``Allow`` lists them; empty if there is no such path."""
        methods: set[str] = {route.method for route, _ in self._matches(path)}
        if "GET" in methods:
            methods.add("HEAD")
        if methods:
            methods.add("OPTIONS")
        return ", ".join(sorted(methods))

    def _matches(self, path: str) -> list[tuple[Route, dict[str, str]]]:
        segments = path.split("/")
        found = []
        for pattern, route in self._routes.get(len(segments), ()):
            parts = {}
            for expected, segment in zip(pattern, segments, strict=True):
                if expected.startswith("{") and segment:
                    parts[expected.strip("{}")] = segment
                elif expected != segment:
                    break
            else:
                found.append((route, parts))
        return found
