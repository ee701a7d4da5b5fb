"""The sidecar's settings: the names others script against, their defaults, and one clear line on a mistake."""

import os
import socket

import pytest

from dagferry_core.errors import SetupError
from dagferry_follow.remote.connection import ConnectionOptions
from dagferry_sidecar.settings import SETTINGS, read_settings


def read(*arguments: str, **environment: str):
    return read_settings(["--root", "/dags", *arguments], environment)


def test_the_flags_are_the_promised_ones() -> None:
    assert {setting.flag for setting in SETTINGS} >= {
        "--server", "--deployment", "--root", "--once", "--once-timeout", "--when-empty", "--seed",
        "--listen", "--poll-wait", "--poll-interval", "--keep-trees", "--keep-hours", "--max-tree-bytes",
        "--instance", "--component",
    }  # fmt: skip


def test_the_defaults_are_the_promised_ones() -> None:
    settings = read()
    assert (settings.server, settings.deployment) == ("http://127.0.0.1:8000", "default")
    assert (settings.poll_wait, settings.poll_interval, settings.once_timeout) == (30, 5, 300)
    assert (settings.keep_trees, settings.keep_hours, settings.max_tree_bytes) == (3, 24, None)
    assert settings.listen == ("127.0.0.1", 8001), "nobody else's business unless asked for"
    assert settings.instance == socket.gethostname()
    assert settings.once is False


def test_a_flag_wins_over_its_variable() -> None:
    assert read(DAGFERRY_POLL_WAIT="7").poll_wait == 7
    assert read("--poll-wait", "8", DAGFERRY_POLL_WAIT="7").poll_wait == 8
    assert read_settings([], {"DAGFERRY_ROOT": "/dags", "DAGFERRY_ONCE": "true"}).once is True


def test_paths_are_made_absolute_and_the_server_loses_its_last_slash(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings(["--root", "dags"], {}).root == str(tmp_path / "dags")
    assert read("--server", "https://example.org/dagferry/").server == "https://example.org/dagferry"


def test_the_most_bytes_of_trees_are_a_share_of_the_volume_by_default(tmp_path) -> None:
    asked = read_settings(["--root", str(tmp_path), "--max-tree-bytes", "1MiB"], {})
    assert asked.tree_rules() == (3, 24.0, 1 << 20)
    assert read_settings(["--root", str(tmp_path)], {}).tree_rules().max_tree_bytes > 1 << 20


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--root is required"),
        (["--root", ""], "--root"),
        (["--root", "/d", "--server", "ftp://x"], "--server"),
        (["--root", "/d", "--server", "example.org:8000"], "--server"),
        (["--root", "/d", "--server", "http://user:secret@example.org"], "--server"),
        (["--root", "/d", "--server", "http://example.org:99999"], "--server"),
        (["--root", "/d", "--server", "http://example.org?x=1"], "--server"),
        (["--root", "/d", "--deployment", "Prod"], "--deployment"),
        (["--root", "/d", "--deployment", "../x"], "--deployment"),
        (["--root", "/d", "--poll-wait", "51"], "--poll-wait"),
        (["--root", "/d", "--poll-wait", "-1"], "--poll-wait"),
        (["--root", "/d", "--poll-interval", "0"], "--poll-interval"),
        (["--root", "/d", "--keep-hours", "nan"], "--keep-hours"),
        (["--root", "/d", "--listen", "8001"], "--listen"),
        (["--root", "/d", "--instance", "a\nb"], "--instance"),
        (["--root", "/d", "--component", "näme"], "--component"),
        (["--root", "/d", "--when-empty", "seed", "--seed", "/no/such/folder"], "the folder does not exist"),
        (["--root", "/d", "--when-empty", "seed"], "must be given together"),
        (["--root", "/d", "--seed", "/"], "must be given together"),
        (["--root", "/d", "--when-empty", "nothing"], "one of wait, seed, empty"),
        (["--root", "/d", "--unknown"], "--unknown"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag(arguments, named) -> None:
    with pytest.raises(SetupError) as caught:
        read_settings(arguments, {})
    assert named in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("flag", ["--server", "--airflow-url"])
@pytest.mark.parametrize(
    "url", ["http://u:CANARY@host:1", "http://u:CAN/ARY@host", "u:CANARY@host", "ftp://CANARY@host"]
)
def test_a_password_in_a_url_is_not_shown(flag, url) -> None:
    with pytest.raises(SetupError, match="…@host") as caught:
        read_settings(["--root", "/d", flag, url], {})
    assert "CAN" not in caught.value.message


def test_a_token_is_given_or_in_a_file_and_never_in_an_error(tmp_path) -> None:
    assert read_settings(["--root", "/r", "--token-file", "t"], {}).access.token_file == os.path.abspath("t")
    assert read_settings(["--root", "/r"], {"DAGFERRY_TOKEN": "dgf_x"}).access == ConnectionOptions("dgf_x")
    for arguments in (["--token", "two words"], ["--token", "dgf_x", "--token-file", "t"], ["--ca-file", "/nowhere"]):
        with pytest.raises(SetupError) as caught:
            read_settings(["--root", "/r", *arguments], {})
        assert "words" not in caught.value.message
        assert "dgf_x" not in caught.value.message


def test_a_token_over_plain_http_needs_a_flag(tmp_path) -> None:
    arguments = ["--root", "/r", "--server", "http://dagferry-server:8000", "--token", "dgf_x"]
    with pytest.raises(SetupError, match="plain HTTP"):
        read_settings(arguments, {})
    assert read_settings([*arguments, "--allow-plain-http"], {}).allow_plain_http
