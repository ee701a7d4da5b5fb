"""How a follower reaches its server: directly or through the environment's proxy, over TLS, and with which token.

A token is never sent where someone on the network could read it: over plain HTTP only to this machine, or to others if
that was allowed explicitly. Requests to this machine never go through a proxy.
"""

import base64
import http.client
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from dagferry_core.errors import SetupError
from dagferry_core.loopback import is_loopback
from dagferry_follow.errors import TokenUnreadable

if TYPE_CHECKING:
    import ssl

MAX_TOKEN_BYTES = 16 * 1024

_PORTS = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}


class Timeouts(NamedTuple):
    """Seconds for connecting to the server, for its answer about the newest deploy, and for a download."""

    connect: float
    answer: float
    download: float


class ConnectionOptions(NamedTuple):
    """How to authenticate: a token, or a file that holds it, and the CAs to trust instead of the machine's own.

    The files are read again for every request and every connection, so they can be renewed at any time.
    """

    token: str = ""
    token_file: str | None = None
    ca_file: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the header with the token, if there is one; ``TokenUnreadable`` if its file does not hold one."""
        token = self.token if self.token_file is None else read_token(self.token_file)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def check(self, url: str, *, allow_plain_http: bool) -> None:
        """Raise ``SetupError`` if a request to ``url`` would expose the token on the network."""
        parts = urlsplit(url)
        if not (self.token or self.token_file) or allow_plain_http:
            return
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise SetupError(
                f"{url} is plain HTTP: anyone on the network path could read the token.",
                "Use https, or add --allow-plain-http if you trust the network, for example inside a cluster.",
            )


def check_url(text: str) -> str:
    """Return the URL of a server without a slash at its end; ``ValueError`` if it is not valid."""
    try:
        url = urlsplit(text)
        port_is_fine = url.port is None or url.port > 0
    except ValueError:
        # The library's own message may show part of a password.
        raise ValueError("a URL such as http://dagferry-server:8000 is expected") from None
    if url.scheme not in {"http", "https"} or not url.hostname or not port_is_fine or url.query or url.fragment:
        raise ValueError("a URL such as http://dagferry-server:8000 is expected")
    if "@" in url.netloc:
        raise ValueError("a URL without a user name is expected")
    return text.rstrip("/")


def read_token(path: str) -> str:
    """Return the token that a file holds; raise ``TokenUnreadable`` if it does not hold one."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise TokenUnreadable(f"The token file {path} cannot be read: {error.strerror}.") from error
    token = content.decode("ascii", "replace").strip()
    if not is_token(token):
        raise TokenUnreadable(f"The token file {path} does not hold a token.")
    return token


def is_token(text: str) -> bool:
    """Return whether ``text`` can be sent as a token: one word of printable ASCII, not too long."""
    return text.isascii() and text.isprintable() and " " not in text and 0 < len(text) <= MAX_TOKEN_BYTES


def proxy_for(url: SplitResult, environment: Mapping[str, str]) -> SplitResult | None:
    """Return the proxy that the environment names for ``url``, ``None`` if there is none.

    As usual: ``https_proxy`` or ``http_proxy``, else ``all_proxy``, in lower or upper case; ``no_proxy`` lists hosts
    and domains with their subdomains, each with a port or without, networks such as ``10.0.0.0/8``, or ``*``. Raises
    ``ValueError`` if the proxy is not a valid address.
    """

    def named(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    proxy = named(f"{url.scheme}_proxy") or named("all_proxy")
    if not proxy or is_loopback(url.hostname or ""):
        return None
    if any(_passes_by(entry.strip(), url) for entry in named("no_proxy").lower().split(",")):
        return None
    return _split(proxy if "://" in proxy else "http://" + proxy)


def _passes_by(entry: str, url: SplitResult) -> bool:
    import ipaddress  # noqa: PLC0415 - hardly any cold start needs it

    host = (url.hostname or "").lower()
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        domain, _, port = entry.removeprefix("*").lstrip(".").partition(":")
    if port and port != str(url.port or _PORTS.get(url.scheme)):
        return False
    return bool(domain) and (host == domain or host.endswith("." + domain))


def _split(proxy: str) -> SplitResult:
    # The library's message about a bad address shows part of it, which may be part of a password.
    try:
        parts = urlsplit(proxy)
        _ = parts.port
    except ValueError:
        raise ValueError("the proxy in the environment is not an http:// address") from None
    return parts


def tls_context(ca_file: str | None) -> "ssl.SSLContext":
    """Return a context that verifies certificates against ``ca_file`` alone, or against the machine's own CAs.

    Raises ``OSError`` if the file cannot be used.
    """
    import ssl  # noqa: PLC0415 - plain http does without

    context = ssl.create_default_context(cafile=ca_file)
    if ca_file:
        # From Python 3.13 on, a CA must state its purpose and its key's identifier. Those of many clusters do not, nor
        # do any that openssl creates by default. A CA named explicitly is trusted; chain, names and times still count.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class _TlsConnection(http.client.HTTPConnection):
    """``http.client.HTTPSConnection``, which does not exist where ssl was not imported at start (docs/adr/0026).

    ``name`` is the host that the certificate must be for.
    """

    default_port = http.client.HTTPS_PORT

    def __init__(self, host: str, port: int | None, *, timeout: float, name: str, context: "ssl.SSLContext") -> None:
        super().__init__(host, port, timeout=timeout)
        self._name = name
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


def connect(
    url: SplitResult, access: ConnectionOptions, environment: Mapping[str, str], seconds: float
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """Return an unopened connection for ``url``, the prefix of every path, and headers for the proxy.

    Raises ``OSError`` or ``ValueError`` if the proxy's address or the CA file is invalid.
    """
    host, port = url.hostname or "", url.port
    proxy = proxy_for(url, environment)
    via, secret = _proxy_address(proxy) if proxy else ((host, port), {})
    if url.scheme != "https":
        before = f"http://{url.netloc}" if proxy else ""
        return http.client.HTTPConnection(*via, timeout=seconds), before, secret
    context = tls_context(access.ca_file)
    connection = _TlsConnection(*via, timeout=seconds, name=host, context=context)
    if proxy:
        connection.set_tunnel(host, port or http.client.HTTPS_PORT, secret)
    return connection, "", {}


def _proxy_address(proxy: SplitResult) -> tuple[tuple[str, int | None], dict[str, str]]:
    if proxy.scheme != "http" or not proxy.hostname:
        raise ValueError("the proxy in the environment is not an http:// address")
    secret = {}
    if proxy.username is not None:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        secret["Proxy-Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return (proxy.hostname, proxy.port), secret
