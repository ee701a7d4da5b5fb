"""Buckets for the function, and a dagferry server to deploy to."""

from collections.abc import Callable, Iterator

import pytest

from buckets import FUNCTION, PREFIX, S3, Gcs, Store, fake_gcs_server, moto, versitygw
from credentials import TokensFile, issuers_file
from harness import Server
from issuer import LocalIssuer, issuer_in_a_thread


@pytest.fixture(scope="module", params=["moto", "versitygw", "fake-gcs-server"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An object store that the variables lead to."""
    folder = tmp_path_factory.mktemp("store")
    stores = {"moto": moto, "versitygw": lambda: versitygw(folder), "fake-gcs-server": lambda: fake_gcs_server(folder)}
    with stores[request.param]():
        yield request.param


@pytest.fixture
def store(kind: str) -> Store:
    return Gcs() if kind == "fake-gcs-server" else S3()


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    """The issuer of the identities of functions."""
    with issuer_in_a_thread() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, issuer: LocalIssuer) -> Iterator[Server]:
    """A server without deployments; ``server.secret`` may deploy, ``server.admin`` creates deployments.

    Who has the subject ``FUNCTION`` at the issuer may deploy, too.
    """
    folder = tmp_path_factory.mktemp("server")
    tokens = TokensFile(folder / "tokens.toml")
    secret = tokens.add("bucket", ["read", "deploy"])
    admin = tokens.add("admin", ["admin"])
    rule = f'claims = {{ sub = "{FUNCTION}" }}\nscopes = ["read", "deploy"]\ndeployments = ["*"]'
    issuers = issuers_file(folder / "issuers.toml", issuer.url, rule, kind="generic")
    flags = ("--deployments", "unused", "--tokens-file", str(tokens.path), "--issuers-file", issuers)
    running = Server(folder / "data", *flags).ready()
    running.secret, running.admin = secret, admin
    yield running
    running.kill()


@pytest.fixture
def settings(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Create the deployment that has the bucket's name, and set the variables of the function for it."""

    def set_for(store: Store, **changed: str | None) -> None:
        path, admin = f"/-/deployments/{store.name}", f"Bearer {server.admin}"
        status, body = server.request(path, method="POST", Authorization=admin)
        assert status == 200, body
        values: dict[str, str | None] = {
            "DAGFERRY_SERVER": server.url,
            "DAGFERRY_DEPLOYMENT": store.name,
            "DAGFERRY_TOKEN": server.secret,
            "DAGFERRY_BUCKET": store.name,
            "DAGFERRY_PREFIX": PREFIX,
            "DAGFERRY_SETTLE_SECONDS": "1",
            **changed,
        }
        for name, value in values.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    return set_for
