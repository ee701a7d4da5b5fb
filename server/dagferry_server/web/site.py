"""What all pages share: their templates, headers, threads, and what stays the same for all who look at it.

Every link is relative, because a proxy may have the server below a path that it does not know. Pages have no script and
no style in them and load nothing of other sites; a header makes browsers hold that. They are never compressed: a page
has the word of its forms beside texts of others, and its compressed size would betray that word.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from jinja2 import BaseLoader, DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from dagferry_core import __version__
from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import DagferryError
from dagferry_server.auth.access import Caller
from dagferry_server.errors import Unauthenticated
from dagferry_server.http.models import FIXED_HEADERS
from dagferry_server.http.request_context import SERVICE
from dagferry_server.http.sending import Sender
from dagferry_server.web import texts
from dagferry_server.web.visitors import NOBODY, VISITOR, form_word, identify, is_own_page

UI = "/-/ui/"
PAGE_THREADS = 2
"""Threads that compare and color files. They are not those of the API: a file that takes long delays only pages."""
MAX_FACTS, MAX_PARTS = 10_000, 64
"""How many small facts are remembered, and how many parts of pages, of up to 20 kB each."""
ASSET_SECONDS = 31_536_000

PAGE_HEADERS: Mapping[str, str] = {
    **FIXED_HEADERS,
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: with it, browsers send no Origin with forms.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Remembered:
    """A few results by what they are made of; the longest unused ones are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable) -> Any | None:
        """Return the result, if it is remembered."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Remember a result."""
        self._kept[key] = value
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


class Site:
    """The web page of a server. Made in a thread: it reads files."""

    def __init__(self) -> None:
        here = files("dagferry_server.web")
        self.assets = {path.name: path.read_bytes() for path in (here / "static").iterdir() if path.is_file()}
        templates = {path.name: path.read_text() for path in (here / "templates").iterdir() if path.is_file()}
        self._assets_tag = hashlib.sha256(b"".join(self.assets[name] for name in sorted(self.assets))).hexdigest()[:12]
        self._environment = _environment(DictLoader(templates))
        self.facts, self.parts = Remembered(MAX_FACTS), Remembered(MAX_PARTS)
        self.threads = Sender("page", PAGE_THREADS)

    def compile(self) -> None:
        """Compile the templates; what is needed before is compiled then. Blocks for a tenth of a second."""
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    # --- as the routes want it ---------------------------------------------------------------------------------------

    async def identify(self, request: web.Request) -> Caller | None:
        """Return who looks at a page."""
        return (await identify(request)).caller

    def reject(self, request: web.Request, error: DagferryError) -> web.Response:
        """Return the page about an error: the form to sign in, if it is that nobody has."""
        if isinstance(error, Unauthenticated):
            return self.sign_in(request, error.status)
        return self.page(request, "error.html", error.status, error=error)

    # --- pages -------------------------------------------------------------------------------------------------------

    def sign_in(
        self, request: web.Request, status: int = 200, problem: DagferryError | None = None, asked: str | None = None
    ) -> web.Response:
        """Return the form to sign in, which leads back to the page that was asked for: by default, this one."""
        if asked is None:
            asked = request.rel_url.raw_path_qs.removeprefix(UI) if request.method == "GET" else ""
        return self.page(
            request,
            "sign-in.html",
            status,
            next=asked if is_own_page(asked) else "",
            problem=problem,
            has_tokens=request.app[SERVICE].authenticator.has_tokens,
            ended=request.get(VISITOR, NOBODY).had_session,
        )

    def page(self, request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
        """Return a page. Its templates get ``values``, and what ``_common`` returns."""
        text = self._environment.get_template(template).render({**self._common(request), **values})
        return web.Response(text=text, status=status, headers=PAGE_HEADERS)

    async def slow_page(self, request: web.Request, template: str, **values: Any) -> web.Response:
        """Return a page whose templates have much to do, made in a thread."""
        render = partial(self._environment.get_template(template).render, {**self._common(request), **values})
        return web.Response(text=await self.threads.call(render), headers=PAGE_HEADERS)

    async def part(
        self, request: web.Request, template: str, key: Hashable, values: Callable[[], Awaitable[dict[str, Any]]]
    ) -> Markup:
        """Return a part of a page that is the same for all whose ``key`` is the same; it must not have forms."""
        key = (template, depth(request), key)
        found = self.parts.get(key)
        if found is None:
            url = partial(_url, root(request))
            now = request.app[SERVICE].clock()
            text = self._environment.get_template(template).render(url=url, now=now, **await values())
            found = Markup(text)  # noqa: S704 - the template has escaped it
            self.parts.put(key, found)
        return found

    def _common(self, request: web.Request) -> dict[str, Any]:
        visitor = request.get(VISITOR, NOBODY)
        return {
            "url": partial(_url, root(request)),
            "asset": lambda name: f"{root(request)}static/{name}?v={self._assets_tag}",
            "now": request.app[SERVICE].clock(),
            "caller": visitor.caller,
            "signed_in": visitor.signed_in,
            "word": form_word(request) if visitor.caller else "",
            "json_url": "",
            "open_server": not request.app[SERVICE].authenticator.auth_required,
        }

    def asset_response(self, name: str, tag: str) -> web.Response | None:
        """Return a file that pages load; ``None`` if there is none of this name. ``tag`` is the one in its address."""
        types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        if name not in self.assets:
            return None
        headers = {
            **PAGE_HEADERS,
            "Content-Type": f"{types[name.rpartition('.')[2]]}; charset=utf-8",
        }
        # Its address changes with its content. The page may be one of another release, which runs beside this one.
        if tag == self._assets_tag:
            headers["Cache-Control"] = f"public, max-age={ASSET_SECONDS}, immutable, no-transform"
        return web.Response(body=self.assets[name], headers=headers)


def depth(request: web.Request) -> int:
    """Return how many folders below the first page the path of a request is."""
    return request.rel_url.raw_path.removeprefix(UI).count("/")


def root(request: web.Request) -> str:
    """Return the relative URL of the first page."""
    return "../" * depth(request) or "./"


def _url(root_: str, place: str, /, **query: object) -> str:
    wanted = {name.rstrip("_"): value for name, value in query.items() if value not in {None, ""}}
    return root_ + place + ("?" + urlencode(wanted) if wanted else "")


def see_other(request: web.Request, path: str) -> web.Response:
    """Return a redirection to a page, by its path below the first one."""
    return web.Response(status=303, headers={**PAGE_HEADERS, "Location": root(request) + path})


def _environment(loader: BaseLoader) -> Environment:
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {name: getattr(texts, name) for name in ("shown", "ago", "span", "utc", "size", "path_url")}
    environment.globals |= {
        "time_tag": texts.time_tag,
        "count": texts.count,
        "docs": DOCUMENTATION,
        "release": __version__,
        "started": int(time.time()),
    }
    return environment
