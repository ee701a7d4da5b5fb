"""``dagferry-server new-log-id``: another name for a log that was restored from a backup."""

import pytest

from commands import run
from running import A

pytestmark = pytest.mark.slow


def test_new_log_id_renames_the_logs_and_nothing_else(serve) -> None:
    server = serve("--deployments", "prod,staging")
    server.deploy(A, "prod")
    before = {name: server.current(name) for name in ("prod", "staging")}
    server.stop()
    ended = run("new-log-id", "--data-dir", str(server.data), "--deployments", "prod")
    assert ended.returncode == 0
    name, log_id = ended.stdout.split()
    server = serve("--deployments", "prod,staging")
    assert server.current("prod") == {**before["prod"], "log_id": log_id}
    assert name == "prod"
    assert log_id != before["prod"]["log_id"]
    assert server.current("staging") == before["staging"]


def test_new_log_id_takes_all_logs_that_are_there(serve) -> None:
    server = serve("--deployments", "prod,staging")
    before = {name: server.current(name)["log_id"] for name in ("prod", "staging")}
    server.stop()
    (server.data / "staging" / "log.json").unlink()
    (server.data / "lost+found").mkdir()
    (server.data / "empty").mkdir()
    # The server's variable may name a deployment that is newer than the backup.
    ended = run("new-log-id", "--data-dir", str(server.data), DAGFERRY_DEPLOYMENTS="prod,later")
    assert ended.returncode == 0
    told = dict(line.split() for line in ended.stdout.splitlines())
    assert told.keys() == before.keys()
    assert not told.items() & before.items()
    server = serve("--deployments", "prod,staging")
    assert {name: server.current(name)["log_id"] for name in before} == told


def test_new_log_id_makes_nothing_where_no_log_is(serve, tmp_path) -> None:
    server = serve()
    server.stop()
    for arguments, words in (
        (["--data-dir", str(tmp_path / "mistyped")], "no deploy log of any deployment"),
        (["--data-dir", str(server.data), "--deployments", "default,prod"], "no deploy log of prod"),
    ):
        before = sorted(tmp_path.rglob("*"))
        ended = run("new-log-id", *arguments)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert words in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert sorted(tmp_path.rglob("*")) == before
