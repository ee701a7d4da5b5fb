"""An issuer of JWTs for tests: its keys and discovery, served on this machine, and tokens as real ones are shaped."""

import asyncio
import functools
import ipaddress
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

DISCOVERY_TYPE = "application/json"
KEYS_TYPE = "application/jwk-set+json"
"""What Kubernetes' API server serves its discovery document and its keys as; it has neither as anything else."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def make_key(algorithm: str = "RS256", bits: int = 2048) -> PrivateKey:
    """A fresh private key for ``algorithm``."""
    if algorithm.startswith("RS"):
        return rsa.generate_private_key(65537, bits)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(
        {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
    )


def public_jwk(key: PrivateKey, kid: str, algorithm: str = "RS256", **members: Any) -> dict[str, Any]:
    """The public half as an issuer publishes it; a member that is ``None`` is left out."""
    encoder = jwt.get_algorithm_by_name(algorithm)
    public = json.loads(encoder.to_jwk(key.public_key()))
    public.pop("key_ops", None)
    jwk = {**public, "kid": kid, "alg": algorithm, "use": "sig", **members}
    return {name: value for name, value in jwk.items() if value is not None}


@functools.cache
def _own_key() -> PrivateKey:
    # To make one takes longer than most tests.
    return make_key()


def accepts(header: str, served: str) -> bool:
    """Return whether Kubernetes' API server takes an Accept header for ``served``: ``application/*`` is not enough."""
    return any(kind.partition(";")[0].strip() in {"*/*", served} for kind in header.split(","))


class LocalIssuer:
    """Serves discovery and keys, counts what it is asked, and can be made to misbehave.

    ``keys`` is its key set; ``answers`` replaces the answer of a path; ``asked`` holds each request's path and token.
    """

    def __init__(self) -> None:
        self.key = _own_key()
        self.keys: list[Any] = [public_jwk(self.key, "k1")]
        self.asked: list[tuple[str, str | None]] = []
        self.answers: dict[str, web.Response] = {}
        self.url = ""

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("Authorization")))
        if request.path in self.answers:
            return self.answers[request.path]
        discovery = request.path == "/.well-known/openid-configuration"
        served = DISCOVERY_TYPE if discovery else KEYS_TYPE
        if not accepts(request.headers.get("Accept", "*/*"), served):
            # As Kubernetes' API server answers it, to the letter.
            text = f"406: Not Acceptable\n\nAvailable representations: {served}"
            return web.Response(status=406, text=text)
        body = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"} if discovery else {"keys": self.keys}
        return web.json_response(body, content_type=served)

    @asynccontextmanager
    async def served(self, **options: Any) -> AsyncIterator["LocalIssuer"]:
        """Serve until the end of the block."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        server = TestServer(app, host="127.0.0.1", scheme="https" if "ssl" in options else "http")
        await server.start_server(**options)
        self.url = str(server.make_url("")).rstrip("/")
        try:
            yield self
        finally:
            await server.close()

    def token(
        self, key: PrivateKey | str | None = None, algorithm: str = "RS256", kid: str | None = "k1", **claims: Any
    ) -> str:
        """A token with good claims, unless ``claims`` says otherwise; one that is ``None`` is left out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": "dagferry", "sub": "somebody", "iat": now, "nbf": now, "exp": now + 300}
        payload = {name: value for name, value in {**good, **claims}.items() if value is not None}
        return jwt.encode(payload, key or self.key, algorithm, headers={"kid": kid} if kid else {})


def github_claims(repository_id: str = "123", ref: str = "refs/heads/main", **claims: Any) -> dict[str, Any]:
    """What a token of GitHub Actions carries."""
    return {
        "sub": f"repo:acme@1/dags@{repository_id}:ref:{ref}",
        "repository": "acme/dags",
        "repository_id": repository_id,
        "repository_owner": "acme",
        "ref": ref,
        "run_id": "77",
        "event_name": "push",
        **claims,
    }


def kubernetes_claims(namespace: str = "airflow", account: str = "worker", pod: str | None = None) -> dict[str, Any]:
    """What a projected service account token carries; one that is mounted into a pod names it."""
    bound = {"pod": {"name": pod, "uid": "p"}} if pod else {}
    return {
        "aud": ["dagferry"],
        "sub": f"system:serviceaccount:{namespace}:{account}",
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": "u"}, **bound},
    }


def make_certificate(folder: Path, *, days: int = 1) -> tuple[str, str]:
    """The paths of a fresh self-signed certificate for 127.0.0.1 and localhost, good for ``days``, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.now(timezone.utc) - timedelta(hours=1)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "tls.crt"), str(folder / "tls.key")


@contextmanager
def issuer_in_a_thread(**options: Any) -> Iterator[LocalIssuer]:
    """Serve an issuer beside a test that has no event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = LocalIssuer().served(**options)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
