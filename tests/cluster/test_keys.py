"""A server gets the keys of a real API server with its own token, finds them, and follows when they are rotated."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.control import ApiServer
from cluster.namespaces import create, restricted_namespace
from cluster.pki import write_signing_key
from cluster.trusting import by_discovery, shipped_issuers, without_bearer
from harness import Server, eventually

CURRENT = "/prod/dags/current"
ANYBODY_READS_KEYS = {
    "metadata": {"name": "anybody-reads-keys"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:service-account-issuer-discovery",
    },
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
}
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


class Eager(Server):
    """A server that fetches an issuer's keys once a second at most, not once a minute; see ``eager_keys``."""

    def _launch(self, command: tuple[str, ...], wrapper: tuple[str, ...], environment: Any) -> Any:
        path = str(Path(__file__).parent.parent)
        return super()._launch(("cluster.eager_keys", *command[1:]), wrapper, {**environment, "PYTHONPATH": path})


@pytest.fixture(scope="module")
def own(own_api_server: Callable[[], ApiServer]) -> ApiServer:
    """An API server of this file alone, because it is restarted."""
    return own_api_server()


@pytest.fixture
def airflow(own: ApiServer) -> str:
    return restricted_namespace(own, "dagferry-server", "worker")


@pytest.fixture
def trusted(own: ApiServer, airflow: str, tmp_path: Path) -> str:
    """The shipped issuers file."""
    return shipped_issuers(tmp_path, own, airflow, own.token(airflow, "dagferry-server"))


@pytest.fixture
def asks(tmp_path: Path, started: list[Any]) -> Callable[[str], Callable[[str], int]]:
    """Start a server with an issuers file; what is returned asks it with a token, and returns the status."""

    def start(issuers: str) -> Callable[[str], int]:
        server = Eager(tmp_path / "data", "--deployments=prod", f"--issuers-file={issuers}")
        started.append(server)
        server.ready()
        return lambda token: server.get(CURRENT, Authorization=f"Bearer {token}")[0]

    return start


@pytest.fixture
def for_anybody(own: ApiServer) -> Iterator[None]:
    """The cluster lets anybody read its keys, as managed clusters do."""
    create(own, BINDINGS, ANYBODY_READS_KEYS)
    yield
    assert own.request("DELETE", f"{BINDINGS}/anybody-reads-keys")[0] == 200


@pytest.fixture
def at_own_address(own: ApiServer) -> Iterator[None]:
    """The issuer is the address of the API server, so that its discovery can be found from its name alone."""
    own.restart(issuer=own.url)
    yield
    own.restart()


def test_the_api_server_serves_its_keys_as_one_type_only(own: ApiServer, airflow: str) -> None:
    """What the fake issuer of the other tests imitates."""
    token = own.token(airflow, "dagferry-server")
    assert own.request("GET", "/openid/v1/jwks", token=token)[0] == 406
    status, keys = own.request("GET", "/openid/v1/jwks", token=token, Accept="application/jwk-set+json")
    assert (status, len(keys["keys"])) == (200, 1)


def test_the_server_s_own_account_reads_the_keys_and_needs_no_role(
    asks: Any, own: ApiServer, airflow: str, trusted: str
) -> None:
    assert asks(trusted)(own.token(airflow, "worker", "dagferry")) == 200


def test_without_that_token_the_keys_cannot_be_read_and_the_caller_is_to_come_back(
    asks: Any, own: ApiServer, airflow: str, trusted: str
) -> None:
    assert asks(without_bearer(trusted))(own.token(airflow, "worker", "dagferry")) == 503


@pytest.mark.usefixtures("for_anybody")
def test_without_it_they_are_read_where_the_cluster_lets_anybody(
    asks: Any, own: ApiServer, airflow: str, trusted: str
) -> None:
    assert asks(without_bearer(trusted))(own.token(airflow, "worker", "dagferry")) == 200


@pytest.mark.usefixtures("at_own_address")
def test_the_keys_are_found_by_discovery_with_the_token(asks: Any, own: ApiServer, airflow: str, trusted: str) -> None:
    ask = asks(by_discovery(trusted, own.url))
    assert ask(own.token(airflow, "worker", "dagferry")) == 200


@pytest.mark.usefixtures("at_own_address")
def test_they_are_not_found_by_discovery_without_it(asks: Any, own: ApiServer, airflow: str, trusted: str) -> None:
    ask = asks(without_bearer(by_discovery(trusted, own.url)))
    assert ask(own.token(airflow, "worker", "dagferry")) == 503


def test_a_rotated_key_is_taken_and_a_withdrawn_one_no_longer(
    asks: Any, own: ApiServer, airflow: str, trusted: str
) -> None:
    ask = asks(trusted)
    first, first_key = own.token(airflow, "worker", "dagferry"), own.signing_key
    assert ask(first) == 200
    # As in a rotation: the new key signs, and what the old one has signed is good for as long as it lasts.
    second_key = write_signing_key(own.folder / "pki" / "second.key")
    own.restart(second_key, [first_key])
    second = own.token(airflow, "worker", "dagferry")
    eventually("a token of the new key to be taken", lambda: ask(second) == 200)
    assert ask(first) == 200
    own.restart(write_signing_key(own.folder / "pki" / "third.key"), [second_key])
    third = own.token(airflow, "worker", "dagferry")
    # The server's own token, in its file, was signed by the withdrawn key: the kubelet renews it.
    assert ask(third) == 503
    (Path(trusted).parent / "bearer").write_text(own.token(airflow, "dagferry-server"))
    eventually("a token of the third key to be taken", lambda: ask(third) == 200)
    assert ask(second) == 200
    assert eventually("the withdrawn key to be refused", lambda: ask(first) == 401)
