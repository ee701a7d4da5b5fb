"""What a browser without a script does with the web page: cookies, links, redirects and forms, over real HTTP."""

import re
import ssl
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from typing import NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from harness import PATIENCE_SECONDS


class Page(NamedTuple):
    """What an address answered, after redirects."""

    url: str
    status: int
    text: str

    @property
    def words(self) -> str:
        """What a person reads on it."""
        return re.sub(r"<[^>]*>", "", self.text)

    def link(self, text: str) -> str:
        """The address of the first link whose text begins with ``text``."""
        found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>{re.escape(text)}', self.text)
        assert found, (text, self.text)
        return urljoin(self.url, found[1].replace("&amp;", "&"))

    def form(self, action: str) -> tuple[str, dict[str, str]]:
        """The address and the hidden fields of the form whose action ends with ``action``."""
        [(to, inside)] = re.findall(rf'<form [^>]*action="([^"]*{action})"[^>]*>(.*?)</form>', self.text, re.DOTALL)
        return urljoin(self.url, to), dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', inside))


class PlainBrowser:
    """Somebody's browser, with ``headers`` that a login elsewhere adds."""

    def __init__(self, ca_file: str | None = None, **headers: str) -> None:
        self.cookies, self.headers = CookieJar(), headers
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)),
            urllib.request.HTTPCookieProcessor(self.cookies),
        )

    def open(self, url: str, fields: dict[str, str] | None = None, **headers: str) -> Page:
        """Go to an address, or send a form there."""
        parts = urlsplit(url)
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        sent |= {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        if fields is not None:
            sent["Origin"] = f"{parts.scheme}://{parts.netloc}"
        data = None if fields is None else urlencode(fields).encode()
        try:
            with self._opener.open(urllib.request.Request(url, data, sent), timeout=PATIENCE_SECONDS) as answer:
                return Page(answer.url, answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Page(error.url, error.code, error.read().decode())

    def send(self, page: Page, action: str, **fields: str) -> Page:
        """Fill in a form of a page and send it."""
        address, hidden = page.form(action)
        return self.open(address, {**hidden, **fields})
