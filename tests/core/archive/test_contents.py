"""What the members of an archive come to: files, folders and links at their places, and all that is wrong at once."""

import hashlib
import io

import pytest

from dagferry_core.archive import contents as module
from dagferry_core.archive.contents import MAX_TOPS_SHOWN, Content, Contents
from dagferry_core.archive.errors import (
    BundleError,
    LinkRefused,
    PathConflict,
    PathDuplicate,
    PathRefused,
    RootIsLink,
    RootMixed,
    RootNotFound,
    TooManyFiles,
)
from dagferry_core.archive.meter import Meter
from dagferry_core.archive.paths import DEFAULT_EXCLUDES, Excludes
from dagferry_core.archive.tar import Kind, Member
from dagferry_core.archive.tar_header import Header
from dagferry_core.limits import MAX_EXCLUDED_SHOWN, MAX_LISTED_ERRORS

A = b"a = 1\n"


def member(kind: Kind, path: bytes, target: bytes = b"", content: bytes = b"", mode: int = 0o644) -> Member:
    stream = io.BytesIO(content)
    return Member(kind, path, target, Header(path, mode, len(content), b"", target), stream.read)


def file(path: bytes, content: bytes = A, mode: int = 0o644) -> Member:
    return member(Kind.FILE, path, content=content, mode=mode)


def folder(path: bytes) -> Member:
    return member(Kind.FOLDER, path)


def link(path: bytes, target: bytes) -> Member:
    return member(Kind.SYMLINK, path, target)


def hard(path: bytes, target: bytes) -> Member:
    return member(Kind.HARD_LINK, path, target)


def taken(*members: Member, root: str | None = None, max_files: int = 100, when_large=lambda: None) -> Contents:
    meter = Meter(lambda _size: b"", 1 << 30, 1 << 30)
    contents = Contents(
        io.BytesIO(),
        meter,
        max_files=max_files,
        excludes=Excludes(DEFAULT_EXCLUDES),
        root=root,
        when_large=when_large,
    )
    for each in members:
        contents.add(each)
    return contents


def found(*members: Member, root: str | None = None) -> tuple[str, set[str]]:
    top, files = taken(*members, root=root).finish()
    return top, set(files)


def test_a_file_is_stored_with_its_place_size_mode_and_hash() -> None:
    spool = io.BytesIO(b"before")
    spool.seek(0, io.SEEK_END)
    contents = Contents(
        spool,
        Meter(lambda _size: b"", 1 << 30, 1 << 30),
        max_files=10,
        excludes=Excludes(DEFAULT_EXCLUDES),
        root=None,
        when_large=lambda: None,
    )
    for each in (file(b"dags/a.py"), file(b"dags/run.sh", b"#!", 0o700), file(b"dags/b.py", b"", 0o677)):
        contents.add(each)
    root, files = contents.finish()
    assert root == "dags"
    assert files == {
        "a.py": Content(6, 6, 0o644, hashlib.sha256(A).hexdigest()),
        "run.sh": Content(12, 2, 0o755, hashlib.sha256(b"#!").hexdigest()),
        "b.py": Content(14, 0, 0o644, hashlib.sha256(b"").hexdigest()),
    }
    assert spool.getvalue() == b"before" + A + b"#!"


@pytest.mark.parametrize(
    ("members", "root", "expected"),
    [
        ([file(b"dags/a.py")], None, ("dags", {"a.py"})),
        ([folder(b"."), folder(b"dags"), file(b"./dags/a.py")], None, ("dags", {"a.py"})),
        ([file(b"a.py")], None, ("", {"a.py"})),
        ([file(b"dags")], None, ("", {"dags"})),
        ([file(b"dags/a.py"), file(b"b.py")], ".", ("", {"dags/a.py", "b.py"})),
        ([file(b"src/x/a.py"), file(b"b.py")], "src/x", ("src/x", {"a.py"})),
        ([file(b"src/x.py"), folder(b"srcs"), file(b"srcs/b.py")], "src", ("src", {"x.py"})),
        ([], None, ("", set())),
        ([folder(b"dags")], None, ("dags", set())),
    ],
)
def test_the_folder_that_becomes_the_bundle(members, root, expected) -> None:
    assert found(*members, root=root) == expected


@pytest.mark.parametrize(
    ("members", "root", "error", "told"),
    [
        (
            [file(b"dags/a.py"), file(b"b.py")],
            None,
            RootMixed,
            "'dags/a.py' is inside the top folder dags/, but 'b.py'",
        ),
        ([link(b"dags", b"src")], None, RootIsLink, "nothing but a link named 'dags'"),
        ([link(b"src", b"x"), file(b"x/a.py")], "src", RootIsLink, "'src' is a link in the archive, to 'x'"),
        ([file(b"src")], "src", RootNotFound, "has no folder 'src'; its top level contains 'src'"),
        ([], "src", RootNotFound, "its top level contains nothing"),
        ([file(b"%d.py" % n) for n in range(11)], "src", RootNotFound, "'8.py', …"),
        ([file(b"../x"), file(b"dags/a.py"), file(b"b.py")], None, PathRefused, "'../x'"),
    ],
)
def test_where_it_is_not_known_that_is_an_error_and_what_is_wrong_with_names_comes_first(
    members, root, error, told
) -> None:
    assert MAX_TOPS_SHOWN == 10
    with pytest.raises(error) as caught:
        found(*members, root=root)
    assert type(caught.value) is error
    assert told in caught.value.message


def test_links_become_copies() -> None:
    _, files = taken(
        file(b"a.py"), hard(b"b.py", b"a.py"), link(b"c.py", b"a.py"), folder(b"x"), link(b"x/d.py", b"../b.py")
    ).finish()
    assert set(files) == {"a.py", "b.py", "c.py", "x/d.py"}
    assert len(set(files.values())) == 1


@pytest.mark.parametrize(
    ("members", "error", "told"),
    [
        ([file(b"a"), file(b"a")], PathDuplicate, "twice"),
        ([folder(b"a"), folder(b"a")], PathDuplicate, "twice"),
        ([file(b"a"), folder(b"a")], PathConflict, "both as a file and as a folder"),
        ([file(b"a/b"), file(b"a")], PathConflict, "both as an implicit folder and as a file"),
        ([file(b"a"), file(b"a/b")], PathConflict, "'a' is a file in the archive, but has 'a/b' below it"),
        ([link(b"a", b"x"), file(b"a/b/c")], PathConflict, "'a' is a link in the archive"),
        ([file(b".")], PathRefused, "contains its top folder as a file"),
        ([file(b"/a")], PathRefused, "is absolute"),
        ([link(b"a", b"\xff")], LinkRefused, "is not UTF-8"),
        ([link(b"a", b"gone")], LinkRefused, "'a'"),
        ([hard(b"b", b"a")], LinkRefused, "which is not an earlier member of the archive"),
        ([file(b"a"), hard(b"b", b"a/")], LinkRefused, "which treats a file as a folder"),
        ([hard(b"b", b"../a")], LinkRefused, "empty, '.' or '..' component"),
        ([file(b"a.pyc"), hard(b"b", b"a.pyc")], LinkRefused, "which is a path that the exclude rules match"),
        ([folder(b"a"), hard(b"b", b"a")], LinkRefused, "which is a folder"),
        ([file(b"x"), link(b"a", b"x"), hard(b"b", b"a")], LinkRefused, "which is a link"),
    ],
)
def test_what_programs_could_make_different_things_of_is_refused(members, error, told) -> None:
    with pytest.raises(error) as caught:
        found(*members)
    assert told in caught.value.message


def test_a_folder_may_come_after_what_is_in_it() -> None:
    assert found(file(b"a/b/c.py"), folder(b"a"), folder(b"a/b")) == ("", {"a/b/c.py"})


def test_all_that_is_wrong_is_said_at_once_and_too_much_at_once() -> None:
    with pytest.raises(PathRefused, match="2 names or links"):
        found(file(b"/a"), file(b"../b"), file(b"c"))
    with pytest.raises(PathRefused, match=f"At least {MAX_LISTED_ERRORS} names"):
        taken(*(file(b"/%d" % number) for number in range(MAX_LISTED_ERRORS)))


def test_files_and_folders_count_up_to_the_limit_the_implied_ones_and_copies_included() -> None:
    fitting = [file(b"a/b/c.py"), file(b"d.py")]
    taken(*fitting, max_files=4).finish()
    with pytest.raises(TooManyFiles, match=r"at least 4 files and folders, at 'd\.py'; the limit is 3"):
        taken(*fitting, max_files=3)
    with pytest.raises(BundleError):
        taken(*fitting, link(b"e", b"a"), max_files=5).finish()


def test_it_is_reported_when_there_are_many(monkeypatch) -> None:
    monkeypatch.setattr(module, "LARGE_FILES", 2)
    told: list[int] = []
    taken(file(b"1"), file(b"2"), when_large=lambda: told.append(1))
    assert told == []
    taken(file(b"1"), file(b"2"), file(b"3"), file(b"4"), when_large=lambda: told.append(1))
    assert told == [1]


def test_what_the_rules_leave_out_is_counted_and_named_once() -> None:
    contents = taken(
        folder(b".git"), file(b".git/config"), link(b".git/x", b"y"), file(b"a.pyc"), folder(b"x.pyc"), file(b"a.py")
    )
    assert set(contents.excluded) >= {".git", "a.pyc"}
    assert contents.excluded_files == 3
    _, files = contents.finish()
    assert "a.py" in files
    assert not any(path.startswith(".git") for path in files)


def test_what_is_beside_the_bundle_is_not_counted_as_excluded() -> None:
    contents = taken(file(b"src/a.pyc"), file(b"b.pyc"), file(b"src/a.py"), root="src")
    assert contents.excluded == ["src/a.pyc"]
    assert contents.excluded_files == 1


def test_only_so_many_excluded_paths_are_listed() -> None:
    contents = taken(*(file(b"%d.pyc" % n) for n in range(MAX_EXCLUDED_SHOWN + 1)), max_files=1000)
    assert len(contents.excluded) == MAX_EXCLUDED_SHOWN
    assert contents.excluded_files == MAX_EXCLUDED_SHOWN + 1


def test_an_excluded_path_cannot_also_be_in_the_bundle() -> None:
    with pytest.raises(PathConflict, match="exclude rules"):
        found(file(b".git"), folder(b".git"), file(b".git/config"), root=".")
