"""Flags win over variables, and variables over the file; a file's token goes to that file's server only."""

import pytest

from dagferry_client.credentials import TokenSource
from dagferry_client.settings import Flags, check_exposure, offline_entry, resolve
from dagferry_client.targets_file import Entry
from dagferry_core.errors import SetupError

TOML = """
[targets.prod]
server = "https://dags.example.com"
deployment = "prod"
branch = "main"
token-file = "token"

[targets.staging]
server = "https://dags.example.com"
deployment = "staging"
branch = "dev"
token-file = "token"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "dagferry.toml").write_text(TOML)
    return tmp_path


def go(folder, environment=None, branch="", **flags):
    return resolve(Flags(**flags), environment or {}, folder, lambda *_: branch)


def test_flags_win_over_variables(tmp_path) -> None:
    environment = {"DAGFERRY_SERVER": "https://b", "DAGFERRY_DEPLOYMENT": "b", "DAGFERRY_TOKEN": "b"}
    target = go(tmp_path, environment, server="https://a/", deployment="a", token="a", ca_file="ca")
    assert (target.server, target.deployment, target.token, target.ca_file) == (
        "https://a", "a", TokenSource(token="a", source="--token"), "ca",
    )  # fmt: skip
    target = go(tmp_path, environment)
    assert (target.server, target.deployment) == ("https://b", "b")
    assert target.token == TokenSource(token="b", source="DAGFERRY_TOKEN")


def test_a_token_file_wins_over_the_variable(tmp_path) -> None:
    target = go(tmp_path, {"DAGFERRY_TOKEN": "b"}, server="https://a", token_file="t")
    assert target.token == TokenSource(file="t", source="--token-file")


def test_the_branch_selects_the_target(folder) -> None:
    for branch, name in (("main", "prod"), ("dev", "staging")):
        target = go(folder, branch=branch)
        assert (target.name, target.deployment, target.server) == (name, name, "https://dags.example.com")
        assert target.token.file == str(folder / "token")


def test_another_branch_selects_none_but_the_server_that_all_share(folder) -> None:
    target = go(folder, branch="feature")
    assert (target.name, target.deployment, target.server) == ("", "", "https://dags.example.com")
    assert target.token.file == str(folder / "token")
    assert target.known == ("prod", "staging")


def test_a_deployment_selects_its_target_whatever_the_branch(folder) -> None:
    assert go(folder, branch="main", deployment="staging").name == "staging"
    assert go(folder, {"DAGFERRY_DEPLOYMENT": "staging"}, branch="main").name == "staging"
    other = go(folder, branch="main", deployment="other")
    assert (other.name, other.deployment, other.server) == ("", "other", "https://dags.example.com")


def test_target_names_one_and_wins_over_variables(folder) -> None:
    environment = {"DAGFERRY_SERVER": "https://b", "DAGFERRY_DEPLOYMENT": "b"}
    target = go(folder, environment, branch="dev", target="prod")
    assert (target.name, target.server, target.deployment) == ("prod", "https://dags.example.com", "prod")
    assert go(folder, environment, target="prod", deployment="x").deployment == "x"


@pytest.mark.parametrize(
    ("flags", "environment"), [({"server": "https://b"}, {}), ({}, {"DAGFERRY_SERVER": "https://b"})]
)
def test_a_server_of_elsewhere_gets_nothing_of_the_file(folder, flags, environment) -> None:
    target = go(folder, environment, branch="main", **flags)
    assert (target.server, target.deployment, target.token, target.ca_file) == ("https://b", "", TokenSource(), None)


def test_the_only_target_is_used_unless_it_is_for_a_branch(tmp_path) -> None:
    text = '[targets.prod]\nserver = "https://a"\ndeployment = "prod"\n'
    (tmp_path / "dagferry.toml").write_text(text)
    assert go(tmp_path).name == "prod"
    (tmp_path / "dagferry.toml").write_text(text + 'branch = "main"')
    assert go(tmp_path, branch="main").deployment == "prod"
    target = go(tmp_path, branch="feature")
    assert (target.server, target.deployment) == ("https://a", "")


def test_targets_of_several_servers_leave_it_open(tmp_path) -> None:
    (tmp_path / "dagferry.toml").write_text('[targets.a]\nserver="https://a"\n[targets.b]\nserver="https://b"')
    with pytest.raises(SetupError, match="has the targets a, b") as caught:
        go(tmp_path)
    assert "--target" in caught.value.hint


def test_without_a_server_it_says_how_to_name_one(tmp_path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(SetupError, match="No server was given") as caught:
        go(tmp_path)
    assert "DAGFERRY_SERVER" in caught.value.hint
    assert "configure-the-client.md" in caught.value.hint


def test_a_token_that_a_variable_should_have_is_missed(tmp_path) -> None:
    (tmp_path / "dagferry.toml").write_text('server="https://a"\ntoken-env="MY"')
    assert go(tmp_path, {"MY": "t"}).token == TokenSource(token="t", source="MY")
    assert go(tmp_path).token == TokenSource(source="the variable MY, which is not set")
    assert go(tmp_path, {"MY": "t", "DAGFERRY_TOKEN": "d"}).token.source == "DAGFERRY_TOKEN"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"server": "https://user:geheim@a"}, "--server='…@a': a URL without a user name"),
        ({"server": "dags.example.com"}, "--server='dags.example.com': a URL such as"),
        ({"server": "https://a", "deployment": "Prod"}, "--deployment='Prod': 'Prod' is not a valid deployment name"),
        ({"server": "https://a", "token": "two words"}, "--token is not a token"),
        ({"server": "https://a", "token": "x", "token_file": "y"}, "--token and --token-file"),
        ({"server": "https://a", "target": "x"}, "--target and --server"),
        ({"target": "prd"}, "Did you mean prod?"),
        ({"target": "x"}, "It has: prod, staging"),
    ],
)
def test_what_is_wrong_is_named_with_its_source_and_no_secret(folder, flags, said) -> None:
    with pytest.raises(SetupError) as caught:
        go(folder, **flags)
    assert said in caught.value.message
    assert "geheim" not in caught.value.message
    assert "two words" not in caught.value.message + caught.value.hint


def test_a_target_without_a_file_is_a_mistake(tmp_path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(SetupError, match=r"no dagferry\.toml was found"):
        go(tmp_path, target="prod")


@pytest.mark.parametrize("server", ["http://dags.example.com", "http://10.0.0.1:8000"])
@pytest.mark.parametrize("given", [{"token": "t"}, {"token_file": "f"}])
def test_a_token_never_crosses_the_network_in_plain_text(tmp_path, server, given) -> None:
    with pytest.raises(SetupError, match="anyone on the network path could read the token"):
        check_exposure(go(tmp_path, server=server, **given))
    check_exposure(go(tmp_path, server=server, allow_plain_http=True, **given))
    check_exposure(go(tmp_path, {"DAGFERRY_ALLOW_PLAIN_HTTP": "1"}, server=server, **given))


@pytest.mark.parametrize("server", ["http://127.0.0.1:8000", "http://localhost", "https://dags.example.com"])
def test_it_may_go_to_this_machine_and_over_tls(tmp_path, server) -> None:
    check_exposure(go(tmp_path, server=server, token="t"))


def test_without_a_token_there_is_nothing_to_expose(tmp_path) -> None:
    check_exposure(go(tmp_path, server="http://dags.example.com"))


def test_a_target_says_what_airflow_it_is(folder) -> None:
    (folder / "dagferry.toml").write_text(
        'airflow = "3"\n' + TOML.replace("[targets.staging]", 'airflow-python = "3.11"\n[targets.staging]')
    )
    prod, staging = go(folder, target="prod"), go(folder, target="staging")
    assert (prod.airflow_python, prod.airflow) == ("3.11", "3")
    assert (staging.airflow_python, staging.airflow) == (None, "3")


def test_a_command_without_a_server_has_the_target_of_the_branch_too(folder, tmp_path_factory) -> None:
    (folder / "dagferry.toml").write_text(
        '[targets.a]\nbranch = "x"\nairflow = "2"\n[targets.b]\nbranch = "y"\nairflow = "3"\n'
    )

    def airflow(target: str | None, branch: str, **environment: str) -> str | None:
        return offline_entry(target, environment, folder, lambda *_: branch)[0].airflow

    assert (airflow("b", "x"), airflow(None, "x"), airflow(None, "z")) == ("3", "2", None)
    with pytest.raises(SetupError, match="no target 'c'"):
        airflow("c", "x")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / ".git").mkdir()
    assert offline_entry(None, {}, elsewhere, lambda *_: "x") == (Entry(), [])
