"""Archives with links that mean harm: each is refused by its code, or comes out as plain files of its own bundle."""

import pytest

from tarmaker import code, file, folder, gnu_name, hard_link, pax, symlink, tar, tree

GOOD = file(b"dags/good.py")
LONG = b"d" * 247


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([symlink(b"dags/l", b"/etc/passwd")], id="an absolute target"),
        pytest.param([symlink(b"dags/l", b"//etc/passwd")], id="a target with two slashes"),
        pytest.param([symlink(b"dags/l", b"/")], id="the root folder"),
        pytest.param([symlink(b"dags/l", b"/dags/good.py")], id="absolute, and there is such a member"),
        pytest.param([symlink(b"dags/l", b"../../etc/passwd")], id="a target outside"),
        pytest.param([symlink(b"dags/l", b"../..")], id="a folder outside"),
        pytest.param([symlink(b"dags/l", b"..")], id="the folder above dags/"),
        pytest.param([symlink(b"dags/l", b"good.py/../../../etc")], id="outside through a file"),
        pytest.param([symlink(b"dags/l", b"nothing/../../../etc")], id="outside through nothing"),
        pytest.param([symlink(b"dags/l", b"")], id="an empty target"),
        pytest.param([symlink(b"dags/l", b"nothing.py")], id="a target that is not there"),
        pytest.param([symlink(b"dags/l", b"GOOD.py")], id="a target in other letters"),
        pytest.param([symlink(b"dags/l", b"good.py/")], id="a file as a folder"),
        pytest.param([symlink(b"dags/l", b"caf\xe9")], id="a target that is not UTF-8"),
        pytest.param([symlink(b"dags/l", b"..\\good.py")], id="a target with a backslash"),
        pytest.param([pax((b"linkpath", b"good.py\0x")), symlink(b"dags/l", b"x")], id="a NUL in the target"),
        pytest.param([pax((b"linkpath", b"/etc/passwd")), symlink(b"dags/l", b"good.py")], id="outside by PAX"),
        pytest.param([gnu_name(b"/etc/passwd", b"K"), symlink(b"dags/l", b"good.py")], id="outside by GNU long link"),
        pytest.param([symlink(b"dags/l", b"l")], id="a circle of one"),
        pytest.param([symlink(b"dags/l", b"m"), symlink(b"dags/m", b"l")], id="a circle of two"),
        pytest.param([symlink(b"dags/l", b".")], id="a folder in itself"),
        pytest.param([folder(b"dags/d/"), symlink(b"dags/d/l", b"../d")], id="a folder in itself, from above"),
        pytest.param(
            [symlink(b"dags/a/l", b"../b"), symlink(b"dags/b/l", b"../a")], id="two folders, each in the other"
        ),
        pytest.param([symlink(b"dags/l", b".git/x"), file(b"dags/.git/x")], id="a target that is left out"),
        pytest.param([symlink(b"dags/l", b".git"), file(b"dags/.git/x")], id="a folder that is left out"),
        pytest.param(
            [pax((b"linkpath", b"./" * 20_000 + b"good.py")), symlink(b"dags/l", b"x")], id="20,000 components"
        ),
        pytest.param(
            [symlink(b"dags/l%d" % n, b"l%d" % (n + 1)) for n in range(100)] + [file(b"dags/l100")], id="a long chain"
        ),
        pytest.param([hard_link(b"dags/l", b"/etc/shadow")], id="a hard link to an absolute path"),
        pytest.param([hard_link(b"dags/l", b"../../etc/shadow")], id="a hard link outside"),
        pytest.param([hard_link(b"dags/l", b"dags/../../etc")], id="a hard link outside, through dags/"),
        pytest.param([hard_link(b"dags/l", b"dags/nothing")], id="a hard link to nothing"),
        pytest.param([hard_link(b"dags/l", b"good.py")], id="a hard link beside itself, as a link would say it"),
        pytest.param([hard_link(b"dags/l", b"dags/l")], id="a hard link to itself"),
        pytest.param([hard_link(b"dags/l", b"dags/later"), file(b"dags/later")], id="a hard link to a later member"),
        pytest.param([folder(b"dags/d/"), hard_link(b"dags/l", b"dags/d")], id="a hard link to a folder"),
        pytest.param([hard_link(b"dags/l", b"dags")], id="a hard link to an implied folder"),
        pytest.param([hard_link(b"dags/l", b"")], id="a hard link without a target"),
        pytest.param([hard_link(b"dags/l", b".")], id="a hard link to the top folder"),
        pytest.param([file(b"dags/a.pyc"), hard_link(b"dags/l", b"dags/a.pyc")], id="a hard link to what is left out"),
        pytest.param(
            [symlink(b"dags/s", b"."), hard_link(b"dags/l", b"dags/s/good.py")], id="a hard link through a link"
        ),
        pytest.param(
            [symlink(b"dags/d/s", b"../../x"), hard_link(b"dags/l", b"dags/d/s")],
            id="cpython#157190: a hard link to a link",
        ),
        pytest.param(
            [symlink(b"dags/d/s", b"../good.py"), hard_link(b"dags/l", b"dags/d/s")],
            id="cpython#151558: a hard link to a link that points elsewhere from there",
        ),
        pytest.param(
            [symlink(b"dags/a", b"/etc"), symlink(b"dags/b", b"a/passwd")], id="CVE-2025-4330: a link through a link"
        ),
        pytest.param(
            [folder(b"dags/d/"), symlink(b"dags/d/up", b"../.."), symlink(b"dags/l", b"d/up/../etc")],
            id="CVE-2025-4330: up, from where a link leads",
        ),
        pytest.param(
            [
                *[folder(b"dags/" + LONG[: 80 + n] + b"/") for n in range(3)],
                *[symlink(b"dags/s%d" % n, (LONG[:80] + b"/") + b"../" * 1) for n in range(3)],
                symlink(b"dags/escape", b"s0/s1/s2/../../../../../etc"),
            ],
            id="CVE-2025-4138: links that grow past PATH_MAX before they leave",
        ),
        pytest.param(
            [symlink(b"dags/escape", b"s/" * 20 + b"../" * 22 + b"etc"), symlink(b"dags/s", b".")],
            id="CVE-2025-4517: a path that leaves after many steps in place",
        ),
        pytest.param(
            [symlink(b"dags/x", b"../../outside"), folder(b"dags/d/"), symlink(b"dags/d/y", b"../x")],
            id="CVE-2024-12718: something to change outside",
        ),
        pytest.param(
            [symlink(b"dags/l", b"../dags-of-others/secret")], id="CVE-2025-59343: a folder whose name starts the same"
        ),
        pytest.param(
            [symlink(b"dags/l", b"../../dags/good.py")], id="CVE-2025-59343: out and back in by the folder's own name"
        ),
    ],
)
def test_a_link_that_does_not_stay_is_refused(parts):
    assert code(tar(GOOD, *parts)) == "link_refused"


def test_cve_2025_4435_what_is_refused_is_not_half_taken():
    """``tarfile`` with errorlevel=0 wrote members that its filter had refused. Here one refusal refuses all."""
    assert code(tar(GOOD, symlink(b"dags/l", b"/etc/passwd"), file(b"dags/more.py"))) == "link_refused"
    assert code(tar(GOOD, file(b"dags/../../x"), file(b"dags/more.py"))) == "path_refused"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([symlink(b"dags/l.py", b"good.py")], {"l.py"}, id="a neighbour"),
        pytest.param([symlink(b"dags/l.py", b"../dags/good.py")], {"l.py"}, id="inside, by the archive's top"),
        pytest.param([symlink(b"dags/x/y/l.py", b"../../good.py")], {"x/y/l.py"}, id="from below"),
        pytest.param([symlink(b"dags/a", b"b"), symlink(b"dags/b", b"good.py")], {"a", "b"}, id="a chain, forward"),
        pytest.param([hard_link(b"dags/h", b"./dags/good.py")], {"h"}, id="a hard link"),
        pytest.param([hard_link(b"dags/h", b"dags/good.py"), symlink(b"dags/l", b"h")], {"h", "l"}, id="link to hard"),
        pytest.param([folder(b"dags/d/"), symlink(b"dags/l", b"d")], set(), id="an empty folder"),
    ],
)
def test_a_link_that_stays_is_a_copy(parts, expected):
    files = tree(tar(GOOD, *parts))
    assert files == dict.fromkeys({"good.py"} | expected, (b"a = 1\n", False))


def test_links_are_never_read_from_a_disk(tmp_path, monkeypatch):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "secret").write_text("secret")
    monkeypatch.chdir(tmp_path)
    assert code(tar(GOOD, symlink(b"dags/l", b"secret"))) == "link_refused"
    assert code(tar(GOOD, hard_link(b"dags/l", b"dags/secret"))) == "link_refused"
