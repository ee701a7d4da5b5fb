"""``dagferry-server token``: new tokens, and the file that lists them."""

from datetime import datetime, timedelta, timezone

import pytest

from commands import NEW_TOKEN, run
from harness import eventually

pytestmark = pytest.mark.slow


def test_token_new_prints_a_secret_once_and_an_entry_that_lets_it_in(serve, tmp_path) -> None:
    ended = run("token", "new", "--name", "ci", "--scopes", "deploy,sync", "--deployments", "default,team-*")
    assert ended.returncode == 0
    secret, entry = ended.stdout.splitlines()
    assert secret.startswith("dgf_")
    assert secret not in entry + ended.stderr
    (tmp_path / "tokens.toml").write_text(f"tokens = [\n{entry}\n]\n")
    server = serve("--tokens-file", str(tmp_path / "tokens.toml"))
    assert server.get("/default/dags/deploys", Authorization=secret)[0] == 200
    assert server.get("/default/dags/deploys")[0] == 401


def test_a_token_is_added_to_the_file_listed_and_revoked(serve, tmp_path) -> None:
    file = str(tmp_path / "tokens.toml")
    for name, expires in (("ci", ["--expires", "90d"]), ("pods", [])):
        ended = run("token", "new", "--name", name, "--scopes", "read,sync", "--deployments", "default,team-*",
                    "--add", file, *expires)  # fmt: skip
        assert ended.returncode == 0
        assert file in ended.stderr
        [secret] = ended.stdout.splitlines()
    server = serve("--tokens-file", file)
    assert server.get("/default/dags/deploys", Authorization=secret)[0] == 200

    [head, *rows] = [line.split() for line in run("token", "list", "--tokens-file", file).stdout.splitlines()]
    assert head == ["ID", "NAME", "SCOPES", "DEPLOYMENTS", "EXPIRES"]
    ends = {name: (token_id, scopes, deployments, end) for token_id, name, scopes, deployments, end in rows}
    assert ends.keys() == {"ci", "pods"}
    assert ends["pods"][1:] == ("sync,read", "default,team-*", "never")
    end = datetime.strptime(ends["ci"][3], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert abs(end - datetime.now(timezone.utc) - timedelta(days=90)) < timedelta(minutes=5)

    ended = run("token", "revoke", "--tokens-file", file, "--id", ends["pods"][0])
    assert (ended.returncode, ended.stdout.split()[1]) == (0, "pods")
    eventually("the token to be revoked", lambda: server.get("/default/dags/deploys", Authorization=secret)[0] == 401)
    assert run("token", "revoke", "--name", "ci", DAGFERRY_TOKENS_FILE=file).returncode == 0
    ended = run("token", "revoke", "--tokens-file", file, "--name", "ci")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{file} has no such token. See: dagferry-server token list" in ended.stderr


def test_a_token_that_is_limited_to_folders_is_listed_with_them(tmp_path) -> None:
    file = str(tmp_path / "tokens.toml")
    for name, limits in (("team", ["--prefixes", "team-a, b/c/"]), ("ci", [])):
        ended = run(
            "token", "new", "--name", name, "--scopes", "deploy", "--deployments", "prod", "--add", file, *limits
        )
        assert ended.returncode == 0
    listed = {
        line.split()[1]: line.split()[4:] for line in run("token", "list", "--tokens-file", file).stdout.splitlines()
    }
    assert listed == {"NAME": ["EXPIRES", "PREFIXES"], "team": ["never", "team-a/,b/c/"], "ci": ["never"]}
    ended = run("token", "new", "--name", "x", "--scopes", "deploy", "--deployments", "prod", "--prefixes", "../a")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "a folder such as team-a/ is expected" in ended.stderr


def test_a_tokens_file_of_another_shape_gets_an_error_that_shows_the_shape(tmp_path) -> None:
    (tmp_path / "tokens.toml").write_text(run(*NEW_TOKEN).stdout.splitlines()[1])
    ended = run("--tokens-file", str(tmp_path / "tokens.toml"), "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert "The tokens file is not valid TOML" in lines[0]
    assert [lines[1], lines[3]] == ["tokens = [", "]"]
    assert "--help" not in ended.stderr
