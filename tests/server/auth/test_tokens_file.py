"""A tokens file is changed by one entry at a time, and stays as somebody wrote it otherwise."""

import os
import stat
import threading
from pathlib import Path

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.auth.tokens import Token, new_token, parse_tokens
from dagferry_server.auth.tokens_file import add_entry, read_tokens, remove_entries

CI, PODS, BOB = (new_token(name, ["read"], ["*"]).entry for name in ("ci", "pods", "bob"))
COMMENTED = f"""# Who may do what. tokens = [
tokens = [ # here
  # the job
  {CI} # until the move
\t{PODS}
]

users = [
  {{ name = "ci", scopes = ["read"], deployments = ["*"] }},
]
"""


def names(path: Path) -> list[str]:
    return sorted(token.name for token in read_tokens(str(path)).tokens)


def of(name: str):
    def chosen(token: Token) -> bool:
        return token.name == name

    return chosen


@pytest.mark.parametrize(
    "text",
    [
        COMMENTED,
        COMMENTED.replace("\n", "\r\n"),
        "tokens = []",
        "tokens=[]\n",
        f"tokens = [\n{CI}\n{PODS}]",
        f"tokens = [ {CI} {PODS} ]",
        "users = [ { name = 'x', scopes = ['read'], deployments = ['*'] } ]\ntokens = [\n]\n",
    ],
)
def test_an_entry_is_added_and_everything_else_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_bytes(text.encode())
    before = read_tokens(str(path))
    add_entry(str(path), BOB)
    after = read_tokens(str(path))
    assert {token.name for token in after.tokens} == {"bob"} | {token.name for token in before.tokens}
    assert after.users == before.users
    left = path.read_bytes().decode()
    for part in text.replace("[", "[ ").split():
        assert part in left.replace("[", "[ ").split()


def test_entries_are_removed_and_everything_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(COMMENTED)
    [gone] = remove_entries(str(path), of("ci"))
    assert gone.name == "ci"
    assert path.read_text() == COMMENTED.replace(f"  {CI} # until the move\n", "")
    assert remove_entries(str(path), of("ci")) == ()


@pytest.mark.parametrize(
    "text",
    [
        f"tokens = [ {CI} {PODS} ]",
        f"tokens = [\n{CI} {PODS}\n]",
        "tokens = [\n" + CI.replace('["read"]', '[\n"read" ]') + "\n]",
    ],
)
def test_what_cannot_be_removed_for_certain_is_left_to_somebody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(SetupError, match="was not changed") as caught:
        remove_entries(str(path), of("ci"))
    assert "by hand" in caught.value.hint
    assert path.read_text() == text
    assert os.listdir(tmp_path) == ["tokens.toml"]


def test_a_file_that_is_not_there_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    add_entry(str(path), CI)
    assert names(path) == ["ci"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SetupError, match="cannot be opened: No such file"):
        add_entry(str(tmp_path / "none" / "tokens.toml"), CI)


def test_mode_and_link_stay(tmp_path: Path) -> None:
    path = tmp_path / "real"
    path.write_text("tokens = []\n")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    add_entry(str(tmp_path / "link"), CI)
    assert (tmp_path / "link").is_symlink()
    assert names(path) == ["ci"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("text", ["", "{", f"[[tokens]]\n{CI}", "tokens = {}", "\udcff"])
def test_a_missing_file_is_not_touched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for change in (lambda: add_entry(str(path), CI), lambda: remove_entries(str(path), of("ci"))):
        with pytest.raises(SetupError):
            change()
    assert path.read_bytes() == text.encode(errors="surrogateescape")


def test_commands_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    entries = [new_token(f"t{number}", ["read"], ["*"]).entry for number in range(20)]
    threads = [threading.Thread(target=add_entry, args=(str(path), entry)) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parse_tokens(path.read_bytes(), with_users=False).tokens) == len(entries)
