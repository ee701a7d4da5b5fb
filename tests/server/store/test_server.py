"""A whole server whose store is in a bucket: its start, and a store that goes away and comes back."""

import json

import pytest

from harness import Server, eventually, free_port

pytestmark = pytest.mark.slow
DAGS = {"a.py": b"a = 1\n"}


@pytest.fixture
def start(bucket, tmp_path):
    started = []

    def start(*flags: str, **variables: str) -> Server:
        data = tmp_path / f"server-{len(started)}"
        environment = {**bucket.variables(bucket.proxies[0]), **variables}
        server = Server(data, "--store", bucket.url, *flags, port=free_port(), **environment)
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()


def upload(server: Server, files: dict[str, bytes]) -> int:
    from harness import pack

    return server.request("/default/dags/upload", pack(files))[0]


def test_what_one_server_stored_another_one_has(start) -> None:
    deployed = start().ready().deploy(DAGS)
    other = start().ready()
    assert other.current()["version"] == deployed["version"]
    status, bundle = other.get(f"/default/dags/versions/{deployed['version']}")
    assert status == 200
    assert bundle


def test_while_the_store_is_away_uploads_are_refused_and_reads_are_not_and_then_all_is_well(start, bucket) -> None:
    server = start().ready()
    deployed = server.deploy(DAGS)
    with bucket.away():
        assert upload(server, {"a.py": b"a = 2\n"}) == 503
        assert server.get(f"/default/dags/versions/{deployed['version']}")[0] == 200
    eventually("an upload to be accepted", lambda: upload(server, {"a.py": b"a = 3\n"}) == 200)


def test_a_server_starts_while_its_store_is_away_and_uses_it_when_it_is_there(start, bucket) -> None:
    with bucket.away():
        server = start().ready()
        assert server.get("/readyz")[0] == 503
        assert upload(server, DAGS) == 503
    eventually("the server to be ready", lambda: server.get("/readyz")[0] == 200)
    assert upload(server, DAGS) == 200
    assert "The store cannot be probed; the server tries again" in server.log.read_text()


def test_a_refused_store_ends_the_server_with_what_the_store_answered(start, bucket) -> None:
    bucket.proxies[0].refuses_conditions = True
    server = start()
    assert server.process.wait(60) == 2
    assert f"The store {bucket.url} cannot be used" in server.log.read_text()
    assert "it answered 501 Not Implemented" in server.log.read_text()


def test_a_store_that_is_refused_after_the_start_ends_the_server(start, bucket) -> None:
    bucket.proxies[0].refuses_conditions = True
    with bucket.away():
        server = start().ready()
    assert server.process.wait(60) == 2
    assert "it answered 501 Not Implemented" in server.log.read_text()


def test_no_secret_is_in_the_log(start, bucket) -> None:
    server = start(AWS_SECRET_ACCESS_KEY="another-secret").ready()
    eventually("the store to be asked", lambda: "SignatureDoesNotMatch" in server.log.read_text())
    assert upload(server, DAGS) == 503
    lines = server.log.read_text()
    assert not [secret for secret in ("another-secret", "AWS4-HMAC", "StringToSign") if secret in lines]
    assert all(json.loads(line) for line in lines.splitlines())
