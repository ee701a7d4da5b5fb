"""Fetches an issuer's keys from its discovery document or a URL, bounded in time and size.

Redirects are not followed, proxies of the environment are used, and the bearer token is sent only to the host that the
issuers file names. All failures are ``FetchFailed``, whose text is for the server's log only.
"""

import asyncio
import json
import ssl
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from dagferry_core.errors import SetupError
from dagferry_follow.remote.connection import tls_context
from dagferry_runtime.regular import read_regular
from dagferry_server.auth.issuers import Issuer, KeySource, is_safe_url
from dagferry_server.config.blocking import Blocking

FETCH_SECONDS = 10.0
"""For one document, from connecting to its last byte. A request with an unknown key waits for at most two fetches."""
FILES_SECONDS = 5.0
"""For reading the CA and the token that a fetch needs."""
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_BEARER_BYTES = 16 * 1024
MAX_CA_BYTES = 1024 * 1024

OK = 200

ACCEPT = "application/jwk-set+json, application/json"
"""Kubernetes serves its keys as the first type and answers 406 if it is not accepted; its discovery document, and the
keys of other issuers, have the second type."""


class FetchFailed(Exception):
    """The keys could not be fetched."""


async def fetch_keys(issuer: Issuer, reading: Blocking | None = None) -> dict[str, Any]:
    """Return the JWKS document of ``issuer``; raise ``FetchFailed``. ``reading`` reads its files."""
    source = issuer.source
    try:
        context, bearer = await (reading or Blocking("issuer")).call(partial(credentials, source), FILES_SECONDS)
    except TimeoutError as error:
        raise FetchFailed(f"{' or '.join(source.files)} could not be read within {FILES_SECONDS:g} s") from error
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS),
        trust_env=True,
    ) as session:
        if not source.discovery:
            return await _get(session, source.jwks_url or "", bearer)
        discovered = await _get(session, source.discovery, bearer)
        if discovered.get("issuer") != issuer.issuer:
            raise FetchFailed(
                f"{source.discovery} is for the issuer {discovered.get('issuer')!r}, not for {issuer.issuer!r}"
            )
        url = discovered.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url):
            raise FetchFailed(f"{source.discovery} has no https jwks_uri")
        same_host = urlsplit(url)[:2] == urlsplit(source.discovery)[:2]
        return await _get(session, url, bearer if same_host else None)


def credentials(source: KeySource) -> tuple[ssl.SSLContext, str | None]:
    """Return the TLS context and the token of a fetch. Blocks; raises ``FetchFailed`` if a file cannot be used."""
    # Both are read at every fetch, because a cluster rotates its CA and the server's token.
    if source.ca_file:
        _read(source.ca_file, MAX_CA_BYTES)  # OpenSSL itself would wait for the writer of a FIFO
    try:
        context = tls_context(source.ca_file)
    except OSError as error:
        raise FetchFailed(f"{source.ca_file} cannot be used: {error}") from error
    if not source.bearer_token_file:
        return context, None
    bearer = _read(source.bearer_token_file, MAX_BEARER_BYTES).decode(errors="replace").strip()
    if not bearer or not bearer.isascii() or not bearer.isprintable():
        raise FetchFailed(f"{source.bearer_token_file} contains no token")
    return context, bearer


def _read(path: str, most_bytes: int) -> bytes:
    try:
        return read_regular(path, most_bytes)
    except SetupError as error:
        raise FetchFailed(error.message.removesuffix(".")) from error


async def _get(session: aiohttp.ClientSession, url: str, bearer: str | None) -> dict[str, Any]:
    headers = {"Accept": ACCEPT, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
    content = bytearray()
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != OK:
                raise FetchFailed(f"{url} answered {response.status}")
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise FetchFailed(f"{url} has more than {MAX_DOCUMENT_BYTES} bytes")
    except asyncio.TimeoutError as error:
        raise FetchFailed(f"{url} took longer than {FETCH_SECONDS:g} s") from error
    except aiohttp.InvalidURL:
        # A ClientError too. Its text is the address of the proxy, which may contain a password.
        raise FetchFailed(
            f"{url}: this URL, or the proxy of the environment, is not an http:// or https:// address"
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise FetchFailed(f"{url}: {type(error).__name__}: {error}") from error
    except ValueError:
        # Its text may quote the address of the proxy, which may contain a password.
        raise FetchFailed(f"{url}: this URL, or the proxy of the environment, is not a valid address") from None
    return _json(bytes(content), url)


def _json(content: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FetchFailed(f"{where} is not JSON") from error
    if not isinstance(document, dict):
        raise FetchFailed(f"{where} is not a JSON object")
    return document
