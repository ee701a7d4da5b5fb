"""Archives whose names mean harm: each is refused by its code, and bears the incident where it did harm."""

import pytest

from tarmaker import GNU, check, code, file, folder, gnu_name, hard_link, pax, symlink, tar

GOOD = file(b"dags/good.py")


def by_every_way(name):
    """Return a file called ``name`` as each way to write a name has it."""
    return [
        pytest.param(file(name), id=f"{name!r} in the header"),
        pytest.param(pax((b"path", name)) + file(b"dags/x.py"), id=f"{name!r} in PAX"),
        pytest.param(gnu_name(name) + file(b"dags/x.py", magic=GNU), id=f"{name!r} as a GNU long name"),
    ]


@pytest.mark.parametrize(
    "part",
    [
        # CVE-2007-4559, CVE-2001-1267 and their many children: traversal.
        *by_every_way(b"../escape.py"),
        *by_every_way(b"dags/../../escape.py"),
        *by_every_way(b"/etc/cron.d/escape"),
        *by_every_way(b"./../escape.py"),
        *by_every_way(b".//etc/passwd"),
        *by_every_way(b"dags/.."),
        *by_every_way(b"dags/./a.py"),
        *by_every_way(b"././dags/a.py"),
        *by_every_way(b"dags//a.py"),
        *by_every_way(b"dags/a\nb.py"),
        *by_every_way(b"dags/\x1b[2Ja.py"),
        *by_every_way(b"dags/\x7fa.py"),
        *by_every_way(b"..\\..\\escape.py"),
        *by_every_way(b"dags\\a.py"),
        *by_every_way(b"C:\\escape.py"),
        *by_every_way(b"dags/caf\xe9.py"),
        *by_every_way(b"dags/\xc0\xae\xc0\xae/escape.py"),  # an overlong ".."
        *by_every_way(b"dags/\xed\xa0\x80.py"),  # a lone surrogate
        *by_every_way("dags/a\u0085b.py".encode()),
        pytest.param(file(b"escape.py", prefix=b"/etc"), id="an absolute prefix"),
        pytest.param(file(b"escape.py", prefix=b"dags/.."), id="a prefix that leaves"),
        pytest.param(file(b"/escape.py", prefix=b"dags"), id="a prefix and an absolute name"),
        pytest.param(file(b""), id="no name"),
        pytest.param(file(b"."), id="the top folder as a file"),
        pytest.param(symlink(b".", b"/etc"), id="the top folder as a link"),
        pytest.param(symlink(b"", b"/etc"), id="cpython#149486: a link with an empty name"),
        pytest.param(
            symlink(b"", b"dags") + symlink(b"", b"..") + file(b"escape"), id="cpython#149486: a chain of them"
        ),
        pytest.param(hard_link(b"", b"dags/good.py"), id="cpython#149486: a hard link with an empty name"),
        pytest.param(folder(b"/"), id="the root folder"),
        pytest.param(folder(b"../"), id="the folder above"),
        pytest.param(folder(b"dags/../../x/"), id="cpython#155999: a folder outside, on the way back in"),
        pytest.param(folder(b"dags//"), id="a folder with two slashes"),
        pytest.param(pax((b"path", b"dags/a.py\0/../../b")) + file(), id="a NUL that hides the rest"),
        pytest.param(gnu_name(b"dags/a.py\0/../../b") + file(), id="a NUL in a GNU long name"),
        pytest.param(pax((b"path", b"dags/" + b"n" * 256)) + file(), id="a name of 256 bytes"),
        pytest.param(pax((b"path", b"dags/" + "é".encode() * 128)) + file(), id="a name of 128 letters, 256 bytes"),
        pytest.param(pax((b"path", b"d/" * 64 + b"a.py")) + file(), id="65 deep"),
        pytest.param(pax((b"path", b"dags/" + b"d/" * 30_000 + b"a")) + file(), id="30,000 deep"),
        pytest.param(pax((b"path", (b"d" * 200 + b"/") * 6 + b"a")) + file(), id="1,207 bytes"),
        pytest.param(
            pax((b"path", (b"d" * 247 + b"/") * 16 + b"a")) + file(),
            id="CVE-2025-4517, CVE-2025-4138: longer than PATH_MAX",
        ),
    ],
)
def test_a_name_that_leaves_or_hides_something_is_refused(part):
    assert code(tar(GOOD, part)) == "path_refused"
    assert code(tar(part, GOOD)) == "path_refused"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([file(b"dags/a"), file(b"dags/a")], "path_duplicate", id="a file twice"),
        pytest.param([file(b"dags/a"), file(b"./dags/a")], "path_duplicate", id="a file twice, spelled differently"),
        pytest.param([file(b"dags/a"), file(b"a", prefix=b"dags")], "path_duplicate", id="a file twice, by prefix"),
        pytest.param([file(b"dags/a"), pax((b"path", b"dags/a")), file(b"b")], "path_duplicate", id="twice, by PAX"),
        pytest.param([file(b"dags/a"), symlink(b"dags/a", b"good.py")], "path_duplicate", id="a file and a link"),
        pytest.param([symlink(b"dags/a", b"b"), symlink(b"dags/a", b"good.py")], "path_duplicate", id="two links"),
        pytest.param([hard_link(b"dags/good.py", b"dags/good.py")], "path_duplicate", id="a hard link on itself"),
        pytest.param([folder(b"dags/x/"), folder(b"dags/x")], "path_duplicate", id="a folder twice"),
        pytest.param([file(b"dags/a"), folder(b"dags/a/")], "path_conflict", id="a file, then a folder"),
        pytest.param([folder(b"dags/a/"), file(b"dags/a")], "path_conflict", id="a folder, then a file"),
        pytest.param([file(b"dags/a"), file(b"dags/a/b")], "path_conflict", id="a file, then one below it"),
        pytest.param([file(b"dags/a/b"), file(b"dags/a")], "path_conflict", id="one below it, then a file"),
        pytest.param([file(b"dags/a/b/c"), file(b"dags/a")], "path_conflict", id="one far below it, then a file"),
        pytest.param([symlink(b"dags/x", b".."), file(b"dags/x/b")], "path_conflict", id="through a link"),
        pytest.param([symlink(b"dags/x", b"/etc"), file(b"dags/x/passwd")], "path_conflict", id="through one outside"),
        pytest.param([symlink(b"dags/x", b"y"), folder(b"dags/x/")], "path_conflict", id="a link, then a folder"),
        pytest.param([folder(b"dags/x/"), symlink(b"dags/x", b"..")], "path_conflict", id="a folder, then a link"),
        pytest.param([file(b"dags/x/b"), symlink(b"dags/x", b"..")], "path_conflict", id="below a link, then the link"),
        pytest.param([file(b"dags/a.pyc"), folder(b"dags/a.pyc/")], ["good.py"], id="both left out"),
        pytest.param([file(b"dags/__pycache__"), file(b"dags/__pycache__/a")], "path_conflict", id="one left out"),
    ],
)
def test_two_things_at_one_place_are_refused(parts, expected):
    assert code(tar(GOOD, *parts)) == expected


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([symlink(b"x", b"../../.."), file(b"x/escape")], id="CVE-2025-45582: in one archive"),
        pytest.param([symlink(b"x", b"."), folder(b"x/y/"), file(b"x/y/escape")], id="CVE-2002-1216: a link to here"),
        pytest.param([symlink(b"a", b"."), symlink(b"a/b", b".."), file(b"a/b/c")], id="dirsymlink2: link over link"),
        pytest.param([hard_link(b"x", b"dags/good.py"), file(b"x/y")], id="a file below a hard link"),
    ],
)
def test_nothing_is_written_through_a_link(parts):
    assert code(tar(GOOD, *parts), root=".") == "path_conflict"


def test_cve_2025_45582_the_second_archive_finds_no_link_of_the_first():
    """The first would leave a link to outside, the second writes through it; here each is a bundle of its own."""
    assert code(tar(symlink(b"x", b"../../.."))) == "link_refused"
    assert code(tar(file(b"x/escape"))) == ["x/escape"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("dags/Lib/a.py", "dags/lib/a.py"), ("dags/caf\u00e9.py", "dags/cafe\u0301.py"), ("dags/K", "dags/\u212a")],
)
def test_names_that_a_mac_takes_for_one_are_a_warning_and_stay_two(one, other):
    checked = check(tar(file(one.encode(), b"1"), file(other.encode(), b"2")))
    assert len(checked.manifest.files) == 2
    assert len(checked.warnings) == 1
