"""The check of an archive: a whole, proven bundle comes out, or an error that names what is wrong."""

import hashlib
import io
import tracemalloc

import pytest

from dagferry_core.archive.check import ArchiveRules, check_archive
from dagferry_core.archive.errors import (
    BundleEmpty,
    BundleError,
    ExpandedTooLarge,
    LinkRefused,
    PathRefused,
    RootMixed,
    RootNotFound,
    TooManyFiles,
)
from dagferry_core.limits import LARGE_FILES, MIB, PIECE_BYTES
from tarmaker import check, code, file, folder, gnu_name, gz, hard_link, pax, symlink, tar, tree, zst

A = file(b"dags/a.py", b"a = 1\n")


def test_the_manifest_and_the_contents_come_out():
    data = tar(folder(b"dags/"), A, file(b"dags/run.sh", b"#!/bin/sh\n", mode=0o755), file(b"dags/sub/empty", b""))
    assert tree(data) == {
        "a.py": (b"a = 1\n", False),
        "run.sh": (b"#!/bin/sh\n", True),
        "sub/empty": (b"", False),
    }
    checked = check(data)
    assert checked.manifest.files["a.py"].sha256 == hashlib.sha256(b"a = 1\n").hexdigest()
    assert list(checked.manifest.files) == list(checked.offsets) == ["a.py", "run.sh", "sub/empty"]
    assert (checked.warnings, checked.excluded, checked.excluded_files) == ([], [], 0)


def test_the_same_files_make_the_same_digest_however_they_were_packed():
    plain = tar(A, file(b"dags/b.py", b"b = 1\n"))
    others = [
        gz(plain),
        zst(plain),
        tar(folder(b"./"), folder(b"./dags/"), file(b"./dags/b.py", b"b = 1\n"), file(b"./dags/a.py", mode=0o600)),
        tar(file(b"b.py", b"b = 1\n"), file(b"a.py", b"a = 1\n", mode=0o444)),
        tar(pax((b"path", b"dags/b.py"), (b"mtime", b"1.5")), file(b"x", b"b = 1\n"), A),
        tar(A, file(b"dags/__pycache__/x"), file(b"dags/b.py", b"b = 1\n")),
    ]
    digest = check(plain).manifest.digest
    assert [check(data).manifest.digest for data in others] == [digest] * 6


def test_contents_are_appended_to_the_spool():
    spool = io.BytesIO(b"before")
    spool.seek(0, io.SEEK_END)
    checked = check_archive(io.BytesIO(tar(A)), spool, ArchiveRules())
    assert checked.offsets == {"a.py": 6}
    assert spool.getvalue() == b"beforea = 1\n"


def test_the_upload_is_read_from_its_start():
    upload = io.BytesIO(tar(A))
    upload.read()
    assert list(check_archive(upload, io.BytesIO(), ArchiveRules()).manifest.files) == ["a.py"]


@pytest.mark.parametrize(
    ("mode", "executable"),
    [(0o644, False), (0o600, False), (0o000, False), (0o755, True), (0o700, True), (0o4755, True), (0o655, False)],
)
def test_modes_become_0644_or_0755_by_the_owners_bit(mode, executable):
    assert tree(tar(file(b"a", b"", mode=mode))) == {"a": (b"", executable)}


@pytest.mark.parametrize(
    ("parts", "root", "outcome"),
    [
        pytest.param([A], None, ["a.py"], id="dags/ is dropped"),
        pytest.param([A], ".", ["dags/a.py"], id="unless told to keep it"),
        pytest.param([file(b"a.py")], None, ["a.py"], id="no dags/"),
        pytest.param([folder(b"dags/"), A], None, ["a.py"], id="with its folder"),
        pytest.param([A, file(b"b.py")], None, "root_mixed", id="a file beside it"),
        pytest.param([file(b"b.py"), A], None, "root_mixed", id="a file beside it, first"),
        pytest.param([A, folder(b"include/")], None, "root_mixed", id="a folder beside it"),
        pytest.param([folder(b"dags/"), file(b"b.py")], None, "root_mixed", id="an empty dags/ and a file beside it"),
        pytest.param([A, file(b"b.py")], ".", ["b.py", "dags/a.py"], id="a mix that is wanted"),
        pytest.param([A, file(b"._dags")], None, ["a.py"], id="what is left out does not mix"),
        pytest.param([folder(b"./"), A], None, ["a.py"], id="the top folder does not mix"),
        pytest.param([file(b"dagster/a.py")], None, ["dagster/a.py"], id="another name"),
        pytest.param([file(b"dags/dags/a.py")], None, ["dags/a.py"], id="dropped once"),
        pytest.param([file(b"x/dags/a.py")], None, ["x/dags/a.py"], id="at the top only"),
        pytest.param([file(b"dags")], None, ["dags"], id="a file of that name"),
        pytest.param([file(b"Dags/a.py")], None, ["Dags/a.py"], id="in small letters only"),
        pytest.param([symlink(b"dags", b"/srv/dags")], None, "root_is_link", id="the folder was a link"),
        pytest.param([symlink(b"./dags", b"src")], ".", "root_is_link", id="the folder was a link, kept"),
        pytest.param([symlink(b"dags", b"x"), file(b"._dags")], None, "root_is_link", id="the same from macOS"),
        pytest.param([symlink(b"dags", b"src"), file(b"src/a")], None, ["dags/a", "src/a"], id="a link that leads on"),
        pytest.param([symlink(b"other", b"x")], None, "link_refused", id="another link"),
        pytest.param([folder(b"dags/")], None, "bundle_empty", id="an empty folder"),
        pytest.param([], None, "bundle_empty", id="nothing"),
        pytest.param([folder(b".")], None, "bundle_empty", id="the top folder only"),
        pytest.param([file(b"dags/a.pyc")], None, "bundle_empty", id="all left out"),
    ],
)
def test_the_root_of_the_bundle(parts, root, outcome):
    assert code(tar(*parts), root=root) == outcome


@pytest.mark.parametrize(
    ("parts", "root", "outcome"),
    [
        pytest.param([file(b"my_dags/a.py")], "my_dags", ["a.py"], id="another name"),
        pytest.param([folder(b"my_dags/"), file(b"my_dags/x/a.py")], "my_dags", ["x/a.py"], id="with its folder"),
        pytest.param([file(b"o-r-sha/dags/a.py"), file(b"o-r-sha/README.md")], "o-r-sha/dags", ["a.py"], id="a forge"),
        pytest.param([A, file(b"include/b.py")], "dags", ["a.py"], id="dags/ beside another"),
        pytest.param([file(b"x/dags/a.py")], "x", ["dags/a.py"], id="dags/ below it stays"),
        pytest.param([A], "dag", "root_not_found", id="half a name"),
        pytest.param([A], "dags/a.py", "root_not_found", id="a file"),
        pytest.param([A, file(b"dags/.git/x")], "dags/.git", "root_not_found", id="what is left out"),
        pytest.param([A, folder(b"empty/")], "empty", "bundle_empty", id="an empty folder"),
        pytest.param([A, symlink(b"d", b"dags")], "d", "root_is_link", id="a link"),
        pytest.param([A, file(b"lib/b"), symlink(b"dags/l", b"../lib")], "dags", ["a.py", "l/b"], id="a link beside"),
        pytest.param([A, symlink(b"dags/l", b"../../x")], "dags", "link_refused", id="a link out of the archive"),
        pytest.param([A, symlink(b"dags/l", b"..")], "dags", "link_refused", id="a link to what it is in"),
        pytest.param([A, symlink(b"else", b"/etc")], "dags", ["a.py"], id="a wrong link elsewhere"),
        pytest.param([file(b"x/a"), hard_link(b"dags/h", b"x/a")], "dags", ["h"], id="a hard link beside"),
        pytest.param([A, file(b"../x")], "dags", "path_refused", id="a wrong path elsewhere"),
    ],
)
def test_a_folder_of_the_archive_becomes_the_bundle(parts, root, outcome):
    assert code(tar(*parts), root=root) == outcome


def test_paths_excluded_elsewhere_are_not_counted():
    checked = check(tar(A, file(b"dags/b.pyc"), file(b".git/x")), root="dags")
    assert (checked.excluded, checked.excluded_files) == (["dags/b.pyc"], 1)


def test_the_error_for_a_missing_folder_lists_the_existing_ones():
    with pytest.raises(RootNotFound, match=r"no folder 'dag'; its top level contains 'dags', 'x'\."):
        check(tar(A, file(b"x/b")), root="dag")


def test_everything_wrong_with_names_and_links_is_said_at_once():
    parts = [symlink(b"dags/up", b"../../x"), file(b"dags/../b.py"), symlink(b"dags/gone", b"nothing"), file(b"/c.py")]
    with pytest.raises(PathRefused) as caught:
        check(tar(A, *parts))
    assert caught.value.message.startswith("4 names or links in the archive are refused. The path 'dags/../b.py' has")
    assert [name in caught.value.message for name in ("'dags/up'", "'dags/gone'", "'/c.py'")] == [True] * 3
    assert "tar -h" in caught.value.hint
    assert PathRefused.default_hint in caught.value.hint


def test_one_wrong_link_is_said_once_however_many_lead_through_it():
    parts = [symlink(b"dags/bad", b"nothing"), *[symlink(b"dags/%d" % n, b"bad") for n in range(5)]]
    with pytest.raises(LinkRefused) as caught:
        check(tar(A, *parts))
    assert caught.value.message == "The link 'dags/bad' points at 'nothing', but 'dags/nothing' is not in the archive."


def test_a_refusal_lists_twenty_names_and_no_more():
    for part in (symlink, hard_link, lambda name, _: file(name + b"/../x")):
        with pytest.raises(BundleError) as caught:
            check(tar(A, *[part(b"dags/%03d" % n, b"nothing") for n in range(1000)]))
        assert caught.value.message.startswith("At least 20 names or links in the archive are refused.")
        assert "'dags/019" in caught.value.message
        assert "'dags/020" not in caught.value.message


def test_a_mix_names_both_sides():
    with pytest.raises(RootMixed, match=r"'dags/a\.py'.*'b\.py'"):
        check(tar(A, file(b"b.py")))


def test_an_empty_bundle_is_taken_if_the_rules_say_so():
    assert code(tar(), allow_empty=True) == []
    assert code(gz(tar(folder(b"dags/"))), allow_empty=True) == []
    with pytest.raises(BundleEmpty, match="1 were excluded"):
        check(tar(file(b"a.pyc")))


def test_the_answer_lists_excluded_paths():
    parts = [folder(b"dags/.git/"), *[file(b"dags/.git/%d" % n) for n in range(150)], A, file(b"dags/x/._a.py")]
    checked = check(tar(*parts))
    assert checked.excluded == ["dags/.git", "dags/x/._a.py"]
    assert checked.excluded_files == 151
    checked = check(tar(*[file(b"dags/._%d" % n) for n in range(150)], A))
    assert len(checked.excluded) == 100
    assert checked.excluded_files == 150
    assert check(tar(*parts), exclude=()).excluded == []


def test_rules_for_folders_hold_for_links_that_may_lead_to_one():
    parts = [file(b"dags/cache/a.py"), symlink(b"dags/__pycache__", b"cache"), symlink(b"dags/.git", b"/srv/git")]
    assert code(tar(*parts)) == ["cache/a.py"]


def test_excluded_members_still_have_to_be_intact():
    assert code(tar(A, file(b"dags/.git/../../x"))) == "path_refused"
    assert code(tar(A, file(b"dags/.git/x", checksum=b"0" * 8))) == "archive_corrupt"
    assert code(tar(A, file(b"dags/.git"), file(b"dags/.git/x"))) == "path_conflict"


def test_links_are_files_of_the_bundle():
    data = tar(
        file(b"dags/a.py", b"a = 1\n", mode=0o755),
        symlink(b"dags/soft.py", b"a.py"),
        hard_link(b"dags/hard.py", b"dags/a.py"),
        hard_link(b"dags/harder.py", b"./dags/hard.py"),
        symlink(b"dags/sub", b"lib"),
        file(b"dags/lib/b.py", b"b = 1\n"),
    )
    assert tree(data) == dict.fromkeys(["a.py", "soft.py", "hard.py", "harder.py"], (b"a = 1\n", True)) | dict.fromkeys(
        ["sub/b.py", "lib/b.py"], (b"b = 1\n", False)
    )
    checked = check(data)
    assert len({checked.offsets[name] for name in ("a.py", "soft.py", "hard.py", "harder.py")}) == 1


def test_a_refused_link_is_named():
    with pytest.raises(LinkRefused, match=r"'dags/l'.*'\.\./\.\./etc/passwd'"):
        check(tar(A, symlink(b"dags/l", b"../../etc/passwd")))


def test_names_that_collide_elsewhere_are_a_warning():
    [warning] = check(tar(file(b"dags/Team/a.py"), file(b"dags/team/b.py"))).warnings
    assert "'Team' and 'team'" in warning


def test_expanded_bytes_are_counted_headers_and_copies_included():
    data = tar(A)
    assert code(data, max_expanded_bytes=len(data)) == ["a.py"]
    assert code(data, max_expanded_bytes=len(data) - 1) == "expanded_too_large"
    assert code(gz(data), max_expanded_bytes=len(data) - 1) == "expanded_too_large"
    for link in (symlink(b"dags/b.py", b"a.py"), hard_link(b"dags/b.py", b"dags/a.py")):
        data = tar(A, link)
        assert code(data, max_expanded_bytes=len(data) + 6) == ["a.py", "b.py"]
        assert code(data, max_expanded_bytes=len(data) + 5) == "expanded_too_large"


def test_members_are_counted_including_excluded_ones_and_copies():
    parts = [folder(b"dags/"), A, file(b"dags/b.pyc"), folder(b"dags/sub/")]
    assert code(tar(*parts), max_files=4) == ["a.py"]
    assert code(tar(*parts), max_files=3) == "too_many_files"
    parts = [file(b"dags/x/a"), file(b"dags/x/b"), symlink(b"dags/y", b"x")]
    assert code(tar(*parts), max_files=7) == ["x/a", "x/b", "y/a", "y/b"]
    assert code(tar(*parts), max_files=6) == "too_many_files"


def test_folders_that_are_only_implied_count_once():
    parts = [file(b"dags/x/y/a"), file(b"dags/x/y/b"), folder(b"dags/x/y"), file(b"dags/x/z/.git/c")]
    assert code(tar(*parts), max_files=7) == ["x/y/a", "x/y/b"]
    assert code(tar(*parts), max_files=6) == "too_many_files"


@pytest.mark.parametrize(
    "longest", [b"/".join([b"d"] * 64), b"/".join([b"n" * 204] * 5)], ids=["the deepest", "the longest"]
)
def test_what_is_accepted_without_the_top_folder_is_accepted_with_it(longest):
    for prefix in (b"", b"dags/"):
        assert code(tar(gnu_name(prefix + longest), file(b"x"))) == [longest.decode()]
    assert code(tar(gnu_name(b"dags/" + longest), file(b"x")), root=".") == "path_refused"


def test_refusals_by_size_name_what_was_counted_and_the_limit():
    with pytest.raises(ExpandedTooLarge, match=r"at least 5,512 bytes; the limit is 4,000 bytes"):
        check(tar(file(content=bytes(5000))), max_expanded_bytes=4000)
    with pytest.raises(TooManyFiles, match=r"at least 4 files and folders, at 'dags/a/b/c'; the limit is 3"):
        check(tar(file(b"dags/a/b/c")), max_files=3)
    with pytest.raises(TooManyFiles, match=r"at least 4 members or extended headers; the limit is 3"):
        check(tar(*[file(b".git/%d" % n) for n in range(4)]), max_files=3)


class Nothing(io.RawIOBase):
    """A spool that forgets what it is given, so that only the check's own memory is seen."""

    def write(self, data):
        return len(data)

    def tell(self):
        return 0


@pytest.mark.parametrize("pack", [bytes, gz, zst])
def test_memory_does_not_grow_with_sizes(pack):
    upload = io.BytesIO(pack(tar(file(content=bytes(48 * MIB)))))
    tracemalloc.start()
    try:
        check_archive(upload, Nothing(), ArchiveRules())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 13 * PIECE_BYTES  # 11 of them, and a twelfth if the thread that reads ahead is faster


def test_the_caller_is_notified_when_there_are_many_files():
    told = []
    for count in (LARGE_FILES - 1, LARGE_FILES):
        data = tar(*[file(b"dags/%05d" % n, b"") for n in range(count)])
        check_archive(io.BytesIO(data), Nothing(), ArchiveRules(), when_large=lambda: told.append(1))
        assert len(told) == count // LARGE_FILES


def test_the_files_of_a_folder_are_warned_of_by_their_places_in_the_whole(tmp_path):
    data = tar(file(b"json.py"), file(b"A.py"), file(b"a.py"))
    with (tmp_path / "spool").open("w+b") as spool:
        checked = check_archive(io.BytesIO(data), spool, ArchiveRules(), under="team-a/")
    assert list(checked.manifest.files) == ["A.py", "a.py", "json.py"]
    (warning,) = checked.warnings
    assert "'team-a/A.py' and 'team-a/a.py'" in warning
