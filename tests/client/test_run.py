"""A sub-command gets where it goes from its options, warns of what is unsafe, and asks before it guesses."""

import os

import click

from dagferry_client.run import OptionalValue, Run, sub_command

TOML = '[targets.prod]\nserver="{0}"\ndeployment="prod"\nbranch="main"\n[targets.lab]\nserver="{0}"\ndeployment="lab"\n'


def test_without_a_deployment_it_says_how_to_name_one(dagferry, server, project) -> None:
    done = dagferry("status", "--server", server.url)
    assert done.code == 2
    assert "No deployment was given." in done.err
    assert "dagferry deployments" in done.err


def test_targets_that_do_not_decide_are_named(dagferry, server, project) -> None:
    (project / "dagferry.toml").write_text(TOML.format(server.url))
    done = dagferry("status")
    assert done.code == 2
    assert "prod, lab" in done.err
    assert "--target" in done.err


def test_a_token_that_would_cross_the_network_in_plain_text_stays(dagferry) -> None:
    done = dagferry("whoami", "--server", "http://dags.example.com", DAGFERRY_TOKEN="dgf_secret")
    assert done.code == 2
    assert "--allow-plain-http" in done.err
    assert "dgf_secret" not in done.err


def test_a_token_file_that_others_may_read_is_a_warning_and_no_error(at, server, project) -> None:
    (project / "token").write_text("dgf_secret")
    os.chmod(project / "token", 0o644)
    server.answer("GET /-/whoami", {"actor": "a", "expires": None, "deployments": []})
    done = at("whoami", "--token-file", "token")
    assert done.code == 0
    assert done.err == "Warning: Other users of this machine may read the token in token. Run: chmod 600 token\n"


def test_a_token_file_that_is_absent_ends_with_6(at) -> None:
    done = at("whoami", "--token-file", "absent")
    assert done.code == 6
    assert "absent" in done.err


def test_an_optional_value_is_never_the_next_argument() -> None:
    @sub_command(
        click.argument("word", nargs=-1),
        click.option("--wait", cls=OptionalValue, bare="60s"),
        examples=(),
        connects=False,
    )
    def command(run: Run, *, word: tuple[str, ...], wait: str | None) -> None:
        """Record."""
        found.append((word, wait))

    found: list[tuple[tuple[str, ...], str | None]] = []
    for arguments in (["a"], ["--wait", "a"], ["a", "--wait"], ["--wait=5m", "a"], ["--", "--wait"]):
        command.main(arguments, standalone_mode=False)
    assert found == [
        (("a",), None),
        (("a",), "60s"),
        (("a",), "60s"),
        (("a",), "5m"),
        (("--wait",), None),
    ]
