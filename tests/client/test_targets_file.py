"""``dagferry.toml`` is found, checked to its last key, and never has a token or belongs to somebody else."""

import os
from pathlib import Path

import pytest

from dagferry_client.targets_file import Entry, find_targets_file
from dagferry_core.errors import SetupError

TOML = """
server = "https://dags.example.com"
token-file = "secret/token"

[targets.prod]
deployment = "prod"
branch = "main"

[targets.lab]
server = "https://lab.example.com"
deployment = "lab"
branch = ["dev", "next"]
token-env = "LAB_TOKEN"
ca-file = "/etc/lab.pem"
allow-plain-http = true
"""


def write(folder: Path, text: str, name: str = "dagferry.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


def found(folder: Path):
    file, warnings = find_targets_file(folder)
    assert warnings == []
    return file


def test_targets_have_what_the_top_says_unless_they_say_otherwise(tmp_path) -> None:
    file = found(write(tmp_path, TOML))
    token = str(tmp_path / "secret" / "token")
    assert file.path == tmp_path / "dagferry.toml"
    assert file.defaults == Entry(server="https://dags.example.com", token_file=token)
    assert file.targets["prod"] == Entry("https://dags.example.com", "prod", token, branches=("main",))


def test_a_target_with_a_server_of_its_own_gets_no_token_of_another_server(tmp_path) -> None:
    lab = found(write(tmp_path, TOML)).targets["lab"]
    assert lab == Entry("https://lab.example.com", "lab", None, "LAB_TOKEN", "/etc/lab.pem", True, ("dev", "next"))
    other = '[targets.x]\nserver = "https://x.example.com"'
    assert found(write(tmp_path, TOML + other)).targets["x"] == Entry("https://x.example.com")


def test_a_target_with_a_token_of_its_own_has_no_other(tmp_path) -> None:
    more = '[targets.x]\ntoken-env = "X"'
    x = found(write(tmp_path, TOML + more)).targets["x"]
    assert (x.token_env, x.token_file, x.server) == ("X", None, "https://dags.example.com")


def test_it_is_found_in_parents_up_to_the_root_of_the_repository(tmp_path) -> None:
    write(tmp_path, TOML)
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    assert found(inside).path == tmp_path / "dagferry.toml"
    (tmp_path / "a" / ".git").mkdir()
    assert found(inside) is None
    write(tmp_path / "a", TOML)
    assert found(inside).path == tmp_path / "a" / "dagferry.toml"


def test_it_may_be_a_part_of_pyproject_toml(tmp_path) -> None:
    write(tmp_path, '[tool.dagferry]\nserver = "https://a.example.com"', "pyproject.toml")
    assert found(tmp_path).defaults.server == "https://a.example.com"
    write(tmp_path, 'server = "https://b.example.com"')
    assert found(tmp_path).defaults.server == "https://b.example.com"


@pytest.mark.parametrize("text", ["", "[tool.ruff]\n", "[[[ not toml", "tool = 3 # tool.dagferry", "\xff"])
def test_a_pyproject_toml_that_says_nothing_about_us_is_none_of_our_business(tmp_path, text) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path, text, "pyproject.toml")
    assert found(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[[", "is not valid TOML"),
        ("a" * (1 << 20) + "=1", "is longer than"),
        ('token = "dgf_x"', "has token: a file that is committed"),
        ('[targets.x]\ntoken = "dgf_x"', "has targets.x.token: a file that is committed"),
        ('sever = "x"', "unknown key sever"),
        ('[targets.x]\nsever = "x"', "unknown key targets.x.sever"),
        ("server = 3", "server must be a text"),
        ('server = ""', "server must be a text"),
        ("allow-plain-http = 1", "allow-plain-http must be true or false"),
        ('branch = "main"', "branch belongs in a target"),
        ("[targets.x]\nbranch = 3", "targets.x.branch must be the name"),
        ("[targets.x]\nbranch = []", "targets.x.branch must be the name"),
        ('[targets.x]\nbranch = [""]', "targets.x.branch must be the name"),
        ("targets = 3", "a target is a table"),
        ("targets.x = 3", "a target is a table"),
        ('token-file = "a"\ntoken-env = "b"', "both token-file and token-env"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path, text, said) -> None:
    write(tmp_path, text)
    with pytest.raises(SetupError) as caught:
        find_targets_file(tmp_path)
    assert said in caught.value.message
    assert str(tmp_path / "dagferry.toml") in caught.value.message
    assert "dgf_x" not in caught.value.message + caught.value.hint


def test_invalid_utf_8_is_invalid_toml(tmp_path) -> None:
    (tmp_path / "dagferry.toml").write_bytes(b'server = "\xff"')
    with pytest.raises(SetupError, match="not valid TOML"):
        find_targets_file(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_somebody_put_into_a_parent_folder_is_not_used(tmp_path) -> None:
    inside = tmp_path / "mine"
    inside.mkdir()
    path = write(tmp_path, TOML) / "dagferry.toml"
    os.chown(path, 4321, 4321)
    file, warnings = find_targets_file(inside)
    assert file is None
    assert warnings == [f"{path} belongs to another user, so it is not used."]
    os.chown(inside, 4321, 4321)  # a checkout in a container: folder and file have one owner
    assert found(inside).path == path
