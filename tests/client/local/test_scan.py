"""Which files of a dags folder are deployed, and everything wrong with them at once."""

import os
import socket
from pathlib import Path

import pytest

from dagferry_client.local import scan as scanning
from dagferry_client.local.checkout import Checkout
from dagferry_client.local.errors import FolderInvalid, IncludeInvalid
from dagferry_client.local.folder import find_dags_folder
from dagferry_client.local.scan import Include, LocalFile, Scan, parse_include, portable, scan
from dagferry_core.limits import MAX_COMPONENT_BYTES, MAX_DEPTH, MAX_LISTED_ERRORS, MAX_PATH_BYTES
from localtrees import contents, write

A = {"a.py": b"a = 1\n"}
ORDINARY = Checkout()


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    return write(tmp_path / "project" / "dags", A)


def scanned(dags: Path, *includes: Include, checkout: Checkout = ORDINARY) -> Scan:
    return scan(find_dags_folder(str(dags)), includes, checkout)


def files(dags: Path, *includes: Include, checkout: Checkout = ORDINARY) -> dict[str, LocalFile]:
    return {file.path: file for file in scanned(dags, *includes, checkout=checkout).files}


def problems(dags: Path, *includes: Include, checkout: Checkout = ORDINARY) -> list[str]:
    with pytest.raises(FolderInvalid) as caught:
        scanned(dags, *includes, checkout=checkout)
    return [problem.message for problem in caught.value.problems]


def test_every_file_is_there_with_its_mode(dags: Path) -> None:
    write(dags, {"team/b.py": b"", "run.sh": b"#!/bin/sh\n"})
    (dags / "run.sh").chmod(0o775)
    (dags / "team" / "b.py").chmod(0o611)
    (dags / "empty").mkdir()
    found = files(dags)
    assert {path: oct(file.mode) for path, file in found.items()} == {
        "a.py": "0o644",
        "run.sh": "0o755",
        "team/b.py": "0o644",
    }
    assert found["a.py"].size == 6


def test_a_file_has_another_stamp_after_each_change(dags: Path) -> None:
    stamps = [files(dags)["a.py"].stamp]
    for content, times in ((b"a = 22\n", None), (b"a = 33\n", (0, 0)), (b"a = 44\n", (0, 0))):
        (dags / "a.py").write_bytes(content)
        os.utime(dags / "a.py", times)
        stamps.append(files(dags)["a.py"].stamp)
    assert len(set(stamps)) == 4


# links


def test_a_link_in_the_dags_folder_is_deployed_as_what_it_points_at(dags: Path) -> None:
    write(dags, {"lib/x.py": b"x"})
    (dags / "y.py").symlink_to("lib/x.py")
    (dags / "lib2").symlink_to("lib")
    (dags / "lib3").symlink_to("lib2")
    assert contents(dags) == {**A, "lib/x.py": b"x", "y.py": b"x", "lib2/x.py": b"x", "lib3/x.py": b"x"}
    assert scanned(dags).outside == []


@pytest.mark.parametrize("target", ["../include", "{project}/include"])
def test_a_link_into_the_project_just_works(dags: Path, target: str) -> None:
    write(dags.parent / "include", {"sql/q.sql": b"select 1"})
    (dags / "include").symlink_to(target.format(project=dags.parent))
    assert contents(dags) == {**A, "include/sql/q.sql": b"select 1"}
    assert scanned(dags).outside == [str(dags.parent / "include")]


def test_a_link_may_lead_anywhere_in_the_git_checkout(dags: Path) -> None:
    (dags.parent.parent / ".git").mkdir()
    write(dags.parent.parent / "shared", {"s.py": b"s"})
    (dags / "shared").symlink_to("../../shared")
    assert contents(dags) == {**A, "shared/s.py": b"s"}


def test_a_link_out_of_the_project_is_refused_and_the_error_has_the_flag_that_allows_it(dags: Path) -> None:
    write(dags.parent.parent / "secrets", {"id_rsa": b"s"})
    (dags / "keys").symlink_to("../../secrets")
    [message] = problems(dags)
    target = dags.parent.parent / "secrets"
    assert message == (
        f"The link 'keys' leads out of the project, to {str(target)!r}. If it is to be deployed, add: "
        f"--include keys={target}"
    )
    assert contents(dags, parse_include(f"keys={target}")) == {**A, "keys/id_rsa": b"s"}


def test_a_link_out_of_the_project_through_another_one_is_refused_too(dags: Path) -> None:
    write(dags.parent.parent / "secrets", {"id_rsa": b"s"})
    write(dags.parent / "include", {"x": b""})
    (dags.parent / "include" / "more").symlink_to("../../secrets")
    (dags / "include").symlink_to("../include")
    assert ["'include/more' leads out of the project" in message for message in problems(dags)] == [True]


def test_all_bad_links_are_listed_at_once(dags: Path) -> None:
    (dags / "gone").symlink_to("nowhere")
    (dags / "gone2").symlink_to("/nowhere/at/all")
    (dags / "self").symlink_to("self")
    (dags / "to").symlink_to("fro")
    (dags / "fro").symlink_to("to")
    write(dags, {"sub/x.py": b""})
    (dags / "sub" / "up").symlink_to("..")
    (dags / "sub" / "here").symlink_to(".")
    assert problems(dags) == [
        "The link 'fro' is part of a loop.",
        "The link 'gone' points at nothing.",
        "The link 'gone2' points at nothing.",
        "The link 'self' is part of a loop.",
        "'sub/here' points to a folder that contains it, so it has no end.",
        "'sub/up' points to a folder that contains it, so it has no end.",
        "The link 'to' is part of a loop.",
    ]


def test_two_folders_that_link_to_each_other_are_found_out(dags: Path) -> None:
    write(dags, {"one/x.py": b"", "two/y.py": b""})
    (dags / "one" / "l").symlink_to("../two")
    (dags / "two" / "l").symlink_to("../one")
    assert problems(dags) == [
        "'one/l/l' points to a folder that contains it, so it has no end.",
        "'two/l/l' points to a folder that contains it, so it has no end.",
    ]


def test_a_folder_may_be_linked_many_times(dags: Path) -> None:
    write(dags, {"lib/x.py": b"x"})
    for number in range(5):
        (dags / f"l{number}").symlink_to("lib")
    assert len(files(dags)) == 7


def test_links_that_multiply_end_at_the_limit(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MOST_FILES", 5000)
    for level in range(20):
        (dags / f"d{level}").mkdir()
        for number in range(3):
            (dags / f"d{level}" / f"l{number}").symlink_to(f"../d{level + 1}")
    write(dags, {"d20/x.py": b""})
    [message] = problems(dags)
    assert message.endswith("/dags' has more than 5,000 files and folders, which no server accepts.")


# --include


def test_an_include_adds_a_folder_or_a_file_from_elsewhere(dags: Path, tmp_path: Path) -> None:
    write(tmp_path / "lib", {"x.py": b"x", "a.pyc": b""})
    write(tmp_path, {"one.yaml": b"y"})
    included = parse_include(f"libs/x={tmp_path}/lib"), parse_include(f"conf/one.yaml={tmp_path}/one.yaml")
    assert contents(dags, *included) == {**A, "libs/x/x.py": b"x", "conf/one.yaml": b"y"}
    assert scanned(dags, *included).outside == [str(tmp_path / "one.yaml"), str(tmp_path / "lib")]


def test_an_include_replaces_a_link_of_its_name(dags: Path, tmp_path: Path) -> None:
    write(tmp_path / "lib", {"x.py": b"x"})
    (dags / "lib").symlink_to("gone")
    assert contents(dags, parse_include(f"lib={tmp_path}/lib")) == {**A, "lib/x.py": b"x"}


@pytest.mark.parametrize("name", ["a.py", "a.py/lib", "team", "lib"])
def test_an_include_never_hides_what_is_in_the_dags_folder(dags: Path, tmp_path: Path, name: str) -> None:
    write(dags, {"team/b.py": b""})
    write(tmp_path / "lib", {"x.py": b"x"})
    included = [Include("lib", str(tmp_path / "lib")), Include(name, str(tmp_path / "lib"))]
    [message] = problems(dags, *included)
    assert f"so --include {name}=… cannot add {name!r}" in message


def test_an_include_may_be_in_another_one_and_in_a_folder_of_the_dags_folder(dags: Path, tmp_path: Path) -> None:
    write(dags, {"team/b.py": b""})
    write(tmp_path / "lib", {"x.py": b"x"})
    included = [Include(name, str(tmp_path / "lib")) for name in ("team/lib/more", "team/lib")]
    assert sorted(files(dags, *included)) == ["a.py", "team/b.py", "team/lib/more/x.py", "team/lib/x.py"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lib", "is not NAME=PATH"),
        ("=lib", "is not NAME=PATH"),
        ("lib=", "is not NAME=PATH"),
        ("../lib=.", "has an empty, '.' or '..' component"),
        ("/lib=.", "is absolute"),
        ("./=.", "names the dags folder itself"),
        ("a\\b=.", "has a backslash"),
        ("\udcff=.", "is not UTF-8"),
        ("lib=/nowhere/at/all", "there is no '/nowhere/at/all'"),
    ],
)
def test_an_include_that_is_no_name_and_path_is_an_error(text: str, said: str) -> None:
    with pytest.raises(IncludeInvalid) as caught:
        parse_include(text)
    assert said in caught.value.message


def test_an_include_is_absolute_and_without_links(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "real", {"x.py": b""})
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert parse_include("lib/=link") == Include("lib", str(tmp_path / "real"))


# what no server accepts


def test_what_is_no_file_is_refused(dags: Path, monkeypatch) -> None:
    os.mkfifo(dags / "pipe")
    (dags / "null").symlink_to("/dev/null")
    monkeypatch.chdir(dags)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("sock")
    text = "is neither a file nor a folder, but a device, a socket or a named pipe."
    assert problems(dags)[1:] == [f"'pipe' {text}", f"'sock' {text}"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"a\\b.py", "has a backslash or a control character"),
        (b"a\nb.py", "has a backslash or a control character"),
        (b"caf\xe9.py", "is not UTF-8"),
    ],
)
def test_a_name_that_no_bundle_may_have_is_refused(dags: Path, name: bytes, said: str) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(dags), name))).write_bytes(b"")
    [message] = problems(dags)
    assert said in message
    assert message.isprintable()


def test_too_long_and_too_deep_paths_are_refused(dags: Path, monkeypatch) -> None:
    monkeypatch.chdir(dags)
    for _ in range(MAX_DEPTH + 1):
        os.mkdir("d")
        os.chdir("d")
    monkeypatch.chdir(dags)
    for _ in range(5):
        name = "n" * MAX_COMPONENT_BYTES
        os.mkdir(name)
        os.chdir(name)
    Path("x.py").write_bytes(b"")
    deep, long = problems(dags)
    assert f"is a folder so deep that nothing can be in it; at most {MAX_DEPTH}" in deep
    assert f"at most {MAX_PATH_BYTES} are allowed" in long


def test_a_folder_dags_in_the_dags_folder_counts_for_the_length(dags: Path) -> None:
    path = f"dags/{'n' * 200}/{'n' * 200}/{'n' * 200}/{'n' * 200}/"
    write(dags, {path + "m" * (MAX_PATH_BYTES - len(path)): b""})
    assert len(files(dags)) == 2
    write(dags, {path + "m" * (MAX_PATH_BYTES - len(path) + 1): b""})
    assert "is 1025 bytes long" in problems(dags)[0]


def test_a_file_in_the_deepest_folder_is_deployed(dags: Path) -> None:
    path = "d/" * (MAX_DEPTH - 1) + "x.py"
    write(dags, {path: b""})
    assert contents(dags) == {**A, path: b""}


def test_an_unreadable_folder_is_named(dags: Path, monkeypatch) -> None:
    write(dags, {"closed/x.py": b"", "open/y.py": b""})
    real = os.scandir

    def scandir(path):
        if path.endswith("/closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert problems(dags) == ["'closed' cannot be read: Permission denied."]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "dags", {"__pycache__/a.pyc": b""})
    [message] = problems(tmp_path / "dags")
    assert message == f"There are no files to deploy in {str(tmp_path / 'dags')!r}."


def test_the_message_lists_the_first_problems_and_counts_all(dags: Path) -> None:
    for number in range(MAX_LISTED_ERRORS + 5):
        (dags / f"l{number:02}").symlink_to("gone")
    with pytest.raises(FolderInvalid) as caught:
        scanned(dags)
    assert caught.value.message.startswith("25 things in the dags folder cannot be deployed. The link 'l00' points at")
    assert "'l19'" in caught.value.message
    assert "'l20'" not in caught.value.message
    assert caught.value.message.endswith("And 5 more.")
    assert len(caught.value.problems) == MAX_LISTED_ERRORS + 5


def test_the_search_for_problems_ends(dags: Path, monkeypatch) -> None:
    monkeypatch.setattr(scanning, "MAX_PROBLEMS", 7)
    for number in range(20):
        (dags / f"l{number:02}").symlink_to("gone")
    assert len(problems(dags)) == 7


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("MOST_FILES", 3, "more than 3 files and folders"),
        ("MOST_EXPANDED_BYTES", 10, "more than 10 bytes"),
        ("MAX_PATHS_BYTES", 10, "paths of more than 10 bytes in total"),
    ],
)
def test_more_than_any_server_accepts_is_refused(dags: Path, monkeypatch, limit: str, value: int, said: str) -> None:
    write(dags, {"b.py": b"b = 1\n", "team/c.py": b""})
    monkeypatch.setattr(scanning, limit, value)
    [message] = problems(dags)
    assert said in message


def test_a_file_larger_than_a_tar_can_say_is_refused(dags: Path) -> None:
    with (dags / "big.bin").open("wb") as file:
        file.truncate(8**11)
    [message] = problems(dags)
    assert message == f"'big.bin' has {8**11:,} bytes; a file may have at most {8**11 - 1:,}."


def test_more_than_a_server_accepts_by_default_is_a_warning(dags: Path, monkeypatch) -> None:
    assert scanned(dags).warnings == []
    monkeypatch.setattr(scanning, "MAX_EXPANDED_BYTES", 5)
    [warning] = scanned(dags).warnings
    assert warning.startswith("The dags folder has 1 files and folders with 6 bytes. A server accepts")


# other systems


def test_without_modes_in_the_file_system_git_knows_what_is_executable(dags: Path) -> None:
    write(dags, {"run.sh": b"", "new.sh": b""})
    (dags / "a.py").chmod(0o777)
    (dags / "new.sh").chmod(0o777)
    found = files(dags, checkout=Checkout(executable=frozenset({str(dags / "run.sh")})))
    assert {path: file.mode for path, file in found.items()} == {"a.py": 0o644, "run.sh": 0o755, "new.sh": 0o644}


def test_a_link_that_the_checkout_has_as_a_file_is_followed(dags: Path) -> None:
    write(dags.parent / "include", {"x.py": b"x"})
    write(dags, {"include": b"../include", "gone": b"nowhere", "zeros": b"a\0b"})
    links = frozenset(str(dags / name) for name in ("include", "gone", "zeros"))
    assert problems(dags, checkout=Checkout(links=links)) == [
        "The link 'gone' points at nothing.",
        "The link 'zeros' points at nothing.",
    ]
    (dags / "gone").unlink()
    (dags / "zeros").unlink()
    assert sorted(files(dags, checkout=Checkout(links=links))) == ["a.py", "include/x.py"]
    replaced = Include("include", str(dags.parent / "include"))
    assert sorted(files(dags, replaced, checkout=Checkout(links=links))) == ["a.py", "include/x.py"]


def test_macos_s_names_are_composed_as_git_composes_them() -> None:
    assert portable("cafe\u0301.py", "darwin") == "caf\xe9.py"
    assert portable("cafe\u0301.py", "linux") == "cafe\u0301.py"
    assert portable("caf\xe9.py", "darwin") == "caf\xe9.py"
