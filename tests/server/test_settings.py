"""The server's settings."""

import logging

import pytest

from dagferry_core.errors import EXIT_USAGE, SetupError
from dagferry_core.limits import GIB, INGRESS_UPLOAD_BYTES, MIB
from dagferry_server.settings import SETTINGS, Settings, read_settings, shown_address


def settings(*arguments: str, container: tuple[float | None, int | None] = (None, None), **env: str) -> Settings:
    return read_settings(arguments, env, container=lambda: container)


def test_the_defaults_are_the_documented_ones() -> None:
    found = settings()
    assert found.listen == ("127.0.0.1", 8000)
    assert found.admin_listen is None
    assert found.deployments == ("default",)
    assert (found.tiers, found.upload_limit.bytes) == (1, 15 * MIB)
    assert (found.max_expanded_bytes, found.max_files) == (GIB, 100_000)
    assert ".git/" in found.exclude
    assert (found.keep_deploys, found.keep_days) == (20, 90)
    assert not found.allow_empty


def test_the_names_are_those_that_others_script_against() -> None:
    assert {setting.flag for setting in SETTINGS} >= {
        "--listen", "--admin-listen", "--data-dir", "--deployments", "--tiers", "--third-party-ingress",
        "--max-expanded-bytes", "--max-files", "--exclude", "--allow-empty", "--keep-deploys", "--keep-days",
        "--max-store-bytes", "--insecure-no-auth",
    }  # fmt: skip


def test_the_deployments_come_from_the_flag_or_from_the_file() -> None:
    assert settings("--deployments-file", "f").deployments is None
    for variable in ("", "DAGFERRY_DEPLOYMENTS"):
        given = {variable: "prod"} if variable else {}
        flags = () if variable else ("--deployments", "prod")
        with pytest.raises(SetupError, match="--deployments and --deployments-file cannot be combined"):
            settings("--deployments-file", "f", *flags, **given)


def test_tiers_come_from_the_container_unless_they_are_given() -> None:
    assert settings(container=(4.0, 5 * GIB)).tiers == 3
    assert settings("--tiers", "auto", container=(2.0, None)).tiers == 2
    assert settings("--tiers", "7", container=(2.0, None)).upload_limit.bytes == 7 * 15 * MIB


def test_the_gate_has_no_level_of_its_own_unless_it_is_given() -> None:
    found = settings()
    assert (found.gate, found.airflow_python, found.airflow, found.airflowignore) == (None, None, None, None)
    assert found.max_removed_percent == 50
    found = settings("--gate", "off", "--airflow", "3", "--max-removed-percent", "100", DAGFERRY_AIRFLOW_PYTHON="3.12")
    assert (found.gate, found.airflow_python, found.airflow, found.max_removed_percent) == ("off", "3.12", "3", 100)
    with pytest.raises(SetupError, match=r"--airflow-python='3.1': one of 3.8, 3.9, .* is expected"):
        settings("--airflow-python", "3.1")


def test_behind_a_third_party_ingress_8_mib_pass() -> None:
    assert settings("--tiers", "7", "--third-party-ingress").upload_limit.bytes == INGRESS_UPLOAD_BYTES


def test_lists_are_comma_separated() -> None:
    found = settings("--deployments", "prod, staging,prod", "--exclude", ".git/, *.bak")
    assert found.deployments == ("prod", "staging")
    assert found.exclude == (".git/", "*.bak")
    assert settings("--exclude", "").exclude == ()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--deployments", "Prod"),
        ("--deployments", ""),
        ("--deployments", "prod,,x"),
        ("--tiers", "0"),
        ("--tiers", "many"),
        ("--max-files", "0"),
        ("--max-files", "400001"),
        ("--max-expanded-bytes", "17GiB"),
        ("--keep-deploys", "0"),
        ("--max-store-bytes", "lots"),
        ("--listen", "8000"),
        ("--no-such-flag",),
    ],
)
def test_a_bad_value_is_one_line_and_exit_code_2(arguments) -> None:
    with pytest.raises(SetupError) as caught:
        settings(*arguments)
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("flag", ["--listen", "--admin-listen"])
@pytest.mark.parametrize("host", ["0.0.0.0:80", ":80", "[::]:80", "10.0.0.1:80", "example.com:80"])
def test_without_credentials_nobody_else_can_reach_it(flag, host) -> None:
    with pytest.raises(SetupError, match="no credentials"):
        settings(flag, host)


@pytest.mark.parametrize("host", ["127.0.0.1:0", "127.1.2.3:80", "[::1]:80", "localhost:80"])
def test_loopback_is_open_to_this_machine(host) -> None:
    assert settings("--listen", host, "--admin-listen", host).insecure_no_auth is False


def test_insecure_no_auth_listens_anywhere_and_says_so_loudly(caplog) -> None:
    caplog.set_level(logging.INFO)
    found = settings("--listen", "0.0.0.0:80", "--insecure-no-auth")
    found.log(found.store_bytes(100))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "ANYBODY" in warnings[0].message


def test_every_limit_that_came_out_is_logged(caplog) -> None:
    caplog.set_level(logging.INFO)
    found = settings("--max-files", "7", "--keep-days", "3")
    found.log(found.store_bytes(1000))
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    told = caplog.records[0].fields
    assert (told["upload_bytes"], told["tiers"], told["upload_rule"]) == (15 * MIB, 1, "1 tier of 15 MiB")
    assert (told["max_files"], told["max_expanded_bytes"], told["keep_days"]) == (7, GIB, 3)
    assert told["max_store_bytes"] == 800


def test_the_store_takes_80_per_cent_of_its_volume_unless_set_otherwise() -> None:
    assert settings().store_bytes(1000) == 800
    assert settings("--max-store-bytes", "5MiB").store_bytes(1000) == 5 * MIB


def test_an_address_is_shown_as_it_is_given() -> None:
    assert shown_address(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert shown_address(("::1", 80)) == "[::1]:80"


CREDENTIALS = [
    ("--tokens-file", "t"),
    ("--issuers-file", "i"),
    ("--tokens-file", "t", "--proxy-user-header", "X-User", "--proxy-secret-file", "p"),
]


@pytest.mark.parametrize("flags", CREDENTIALS, ids=" ".join)
def test_with_credentials_it_may_listen_anywhere(flags) -> None:
    assert settings("--listen", "0.0.0.0:80", "--admin-listen", "0.0.0.0:81", *flags).auth_required
    assert not settings().auth_required


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--proxy-user-header", "X-User", "--tokens-file", "t"), "must be given together"),
        (("--proxy-secret-file", "p", "--tokens-file", "t"), "must be given together"),
        (("--proxy-user-header", "X-User", "--proxy-secret-file", "p"), "needs --tokens-file"),
        (("--proxy-user-header", "X User"), "name of a header"),
        (("--tls-cert", "c"), "must be given together"),
        (("--tls-key", "c"), "must be given together"),
        (("--tokens-file", "t", "--insecure-no-auth"), "conflicts with"),
        (("--proxy-user-header", "Authorization"), "does not contain a user name"),
        (("--proxy-user-header", "cookie"), "does not contain a user name"),
        (("--proxy-user-header", "HOST"), "does not contain a user name"),
        (("--proxy-user-header", "Proxy-Authorization"), "does not contain a user name"),
        (("--proxy-user-header", "dagferry-proxy-secret"), "does not contain a user name"),
        (("--peers", "peers:8000"), "must be given together"),
        (("--peer-secret-file", "s"), "must be given together"),
        (("--peers", "peers:8000", "--peer-secret-file", "s", "--single-server"), "contradict each other"),
        (("--peers", "peers", "--peer-secret-file", "s"), "HOST:PORT is expected"),
        (("--peers", "peers:1", "--peer-secret-file", "s", "--peer-server-name", "n"), "needs --peers and --tls-cert"),
        (("--tls-cert", "c", "--tls-key", "k", "--peer-server-name", "n"), "needs --peers and --tls-cert"),
        (("--peer-server-name", "a name"), "a host name"),
    ],
)
def test_what_does_not_go_together_is_refused(flags, words) -> None:
    with pytest.raises(SetupError, match=words):
        settings(*flags)


@pytest.mark.parametrize(
    "flag",
    [
        "--data-dir",
        "--deployments-file",
        "--tokens-file",
        "--issuers-file",
        "--proxy-secret-file",
        "--peer-secret-file",
        "--tls-cert",
        "--tls-key",
    ],
)
def test_no_protection_is_switched_off_by_an_empty_setting(flag) -> None:
    together = ["--tls-cert=c.pem", "--tls-key=k.pem", "--proxy-user-header=X-User", "--proxy-secret-file=s"]
    together += ["--peers=peers:8000", "--peer-secret-file=s"]
    name = "DAGFERRY_" + flag.strip("-").replace("-", "_").upper()
    with pytest.raises(SetupError, match=f"{flag}='': a path is expected"):
        settings(*together, "--tokens-file=t", f"{flag}=")
    with pytest.raises(SetupError, match=f"{name}='': a path is expected"):
        settings(**{name: ""})


def test_peers_are_hosts_with_ports() -> None:
    found = settings("--peers", "peers:8000,[fd00::1]:8001", "--peer-secret-file", "s")
    assert found.peers == (("peers", 8000), ("fd00::1", 8001))
    assert (settings().peers, settings().single_server) == (None, False)
    assert settings("--single-server").single_server


# --- the astro CLI ----------------------------------------------------------------------------------------------------


def test_the_astro_cli_is_not_answered_unless_a_path_is_given() -> None:
    assert (settings().astro_cli, settings().public_url) == (None, None)
    found = settings(DAGFERRY_ASTRO_CLI="/astro", DAGFERRY_PUBLIC_URL="https://dags.example.com/")
    assert (found.astro_cli, found.public_url) == ("/astro", "https://dags.example.com")


@pytest.mark.parametrize("listen", ["127.0.0.1:8000", "[::1]:8000", "localhost:8000"])
def test_on_loopback_the_astro_cli_needs_no_public_url(listen: str) -> None:
    assert settings("--astro-cli", "/astro", "--listen", listen).public_url is None


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", ":8000", "[::]:8000", "10.0.0.1:8000", "dags:8000"])
def test_elsewhere_it_does_because_the_cli_sends_its_token_to_what_it_is_told(listen: str) -> None:
    flags = ("--astro-cli", "/astro", "--listen", listen, "--tokens-file", "f")
    with pytest.raises(SetupError, match="--astro-cli needs --public-url") as refused:
        settings(*flags)
    assert "https://dags.example.com" in refused.value.hint
    assert settings(*flags, "--public-url", "http://dags:8000").public_url == "http://dags:8000"


def test_a_public_url_that_nothing_uses_is_refused() -> None:
    with pytest.raises(SetupError, match="--public-url is for --astro-cli"):
        settings("--public-url", "https://dags.example.com")


def test_an_invalid_value_is_named_without_a_secret_in_it() -> None:
    with pytest.raises(SetupError, match=r"--astro-cli='/-/x': a path such as /astro is expected"):
        settings("--astro-cli", "/-/x")
    with pytest.raises(SetupError, match="DAGFERRY_ASTRO_CLI=''"):
        settings(DAGFERRY_ASTRO_CLI="")
    with pytest.raises(SetupError, match="--public-url") as refused:
        settings("--astro-cli", "/astro", "--public-url", "https://me:hunter2@dags.example.com")
    assert "hunter2" not in str(refused.value)
