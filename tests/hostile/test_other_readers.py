"""GNU tar, bsdtar and Python's tarfile unpack each archive that we accept: they must see the very same files in it.

bsdtar is in Debian's ``libarchive-tools``. Where it is missing these tests are skipped, but in CI they fail.
"""

import contextlib
import io
import os
import random
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagferry_core.errors import DagferryError
from tarmaker import GNU, POSIX, file, folder, gnu_name, gz, hard_link, pax, symlink, tar, tree, zst

READERS = {
    "GNU tar": ["tar", "--extract", "--no-same-owner", "--same-permissions", "--file=-"],
    "bsdtar": ["bsdtar", "-x", "-p", "--no-same-owner", "-f", "-"],
    "tarfile": [],
}
A = file(b"dags/a.py")
LONG = b"dags/" + b"long/" * 30 + b"name" * 40


@pytest.fixture(params=READERS)
def unpack(request, tmp_path):
    """Return a function that unpacks a tar with another program, and returns its files as ``tree`` does."""
    command = READERS[request.param]
    if command and not shutil.which(command[0]):
        if os.environ.get("CI"):
            pytest.fail(f"{command[0]} is missing: apt-get install tar libarchive-tools")
        pytest.skip(f"{command[0]} is not installed (Debian: libarchive-tools)")

    def run(data, *, may_complain=False):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        if not command:
            with (
                tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8") as archive,
                contextlib.suppress(*[tarfile.ReadError] * may_complain),
            ):
                archive.extractall(tmp_path, filter=without_owner_and_time)
            return found()
        # Without a UTF-8 locale, names in PAX headers would be converted.
        done = subprocess.run(
            [*command, "-C", tmp_path],
            input=data,
            capture_output=True,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            check=False,
        )
        assert may_complain or done.returncode == 0, done.stderr
        return found()

    def found():
        return {
            os.path.relpath(path, tmp_path): (read(path), bool(os.stat(path).st_mode & 0o100))
            for folder, _, names in os.walk(tmp_path, followlinks=True)
            for path in (os.path.join(folder, name) for name in names)
        }

    return run


def without_owner_and_time(member, _path):
    return member.replace(uid=None, gid=None, uname=None, gname=None, mtime=None, deep=False)


def read(path):
    with open(path, "rb") as opened:
        return opened.read()


ACCEPTED = {
    "nothing": tar(),
    "one file": tar(A),
    "folders": tar(folder(b"./"), folder(b"./dags/"), folder(b"./dags/empty"), file(b"./dags/a.py")),
    "an empty file": tar(file(b"dags/empty", b"")),
    "one block exactly": tar(file(b"dags/a", b"x" * 512), file(b"dags/b", b"y" * 1024)),
    "the old type of files": tar(file(kind=b"\0")),
    "modes": tar(file(b"a", mode=0o755), file(b"b", mode=0o600), file(b"c", mode=0o6755), file(b"d", mode=0o400)),
    "a ustar prefix": tar(file(b"n" * 100, prefix=b"p" * 155)),
    "a GNU long name": tar(gnu_name(LONG), file(b"x", magic=GNU), file(b"after")),
    "a GNU long name before a POSIX header": tar(gnu_name(LONG), file(b"x", prefix=b"y"), file(b"after")),
    "a GNU long name and link": tar(
        gnu_name(LONG), file(b"x"), gnu_name(LONG, b"K"), gnu_name(b"dags/h"), hard_link(b"x", b"y")
    ),
    "a PAX path": tar(pax((b"path", LONG)), file(b"x", prefix=b"y"), file(b"after")),
    "a PAX path in Unicode": tar(pax((b"path", "dags/ünïcödé/日本.py".encode())), file(b"x")),
    "a PAX path that starts with ./": tar(pax((b"path", b"./dags/b")), file(b"x")),
    "a PAX linkpath": tar(pax((b"path", LONG)), file(b"x"), pax((b"linkpath", LONG)), hard_link(b"dags/h", b"y")),
    "a PAX header without records": tar(pax(), A),
    "a PAX path before a GNU header": tar(pax((b"path", LONG)), file(b"x", magic=GNU)),
    "PAX for the link, GNU for the name": tar(
        A, pax((b"linkpath", b"a.py")), gnu_name(b"dags/l"), symlink(b"x", b"y"), file(b"dags/after")
    ),
    "a PAX size that is the header's": tar(
        pax((b"path", "dags/\u00e9t\u00e9.py".encode()), (b"size", b"6")),
        file(b"dags/\xc3\xa9t\xc3\xa9.py"),
        pax((b"size", b"0")),
        folder(b"dags/d/"),
        pax((b"size", b"0"), (b"linkpath", b"a.py")),
        symlink(b"dags/l", b"x"),
        A,
    ),
    "harmless keywords": tar(
        pax((b"comment", b"0" * 40), kind=b"g"),
        pax((b"mtime", b"1.5"), (b"uid", b"99999999"), (b"LIBARCHIVE.creationtime", b"1"), (b"a", b"b=c\nd")),
        A,
    ),
    "two global headers": tar(pax((b"a", b"b"), kind=b"g"), A, pax((b"a", b"c"), kind=b"g"), file(b"dags/b")),
    "a size in other forms": tar(
        file(b"dags/a", fields={124: b"          6 "}),
        file(b"dags/b", fields={124: b"6" + bytes(11)}),
        file(b"dags/c", fields={124: b"000000000006"}),
        file(b"dags/d", b"", fields={124: bytes(12)}),
        file(b"dags/e", fields={124: b"6           "}),
    ),
    "owners in binary": tar(file(fields={108: b"\x80\0\0\0\0\x01\0\0", 116: b"\x80\0\0\0\0\x01\0\0"})),
    "a time before 1970": tar(file(fields={136: b"\xff" * 12}, magic=GNU)),
    "a checksum in other forms": tar(
        file(checksum=b"%06o\0 " % sum(file(b"dags/a.py")[:148] + b" " * 8 + file(b"dags/a.py")[156:512]))
    ),
    "links": tar(
        A,
        symlink(b"dags/l", b"a.py"),
        symlink(b"dags/m", b"./l"),
        hard_link(b"dags/h", b"dags/a.py"),
        hard_link(b"dags/i", b"./dags/h"),
        symlink(b"dags/sub/up", b"../a.py"),
        symlink(b"dags/top", b"../dags/h"),
    ),
    "links to folders": tar(
        file(b"dags/lib/x/a"), file(b"dags/b"), symlink(b"dags/lib/y", b"x"), symlink(b"dags/z", b"lib"),
        symlink(b"dags/up", b"z/../b"), symlink(b"dags/deep", b"z/y/../../b"),
    ),
    "names with a space, a quote, a dash": tar(file(b"dags/ a"), file(b"dags/'\""), file(b"-rf"), file(b"dags/--x")),
    "junk behind a name's NUL": tar(file(b"dags/a.py\0junk")),
    "much padding": tar(A) + bytes(100 * 512),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_others_see_the_same(name, unpack):
    data = ACCEPTED[name]
    assert unpack(data) == tree(data, root=".", exclude=(), allow_empty=True)


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_this_machines_tools_are_understood(style, unpack, tmp_path_factory):
    """A real folder, packed by tarfile, by GNU tar and by bsdtar where it is there."""
    source = tmp_path_factory.mktemp("source")
    (source / "dags" / "sub folder" / ("n" * 60) / ("m" * 90)).mkdir(parents=True)
    (source / "dags" / "sub folder" / ("n" * 60) / ("m" * 90) / "é.py").write_text("a = 1\n")
    (source / "dags" / "run.sh").write_text("#!/bin/sh\n")
    (source / "dags" / "run.sh").chmod(0o755)
    (source / "dags" / "link").symlink_to("sub folder")
    (source / "dags" / "hard").hardlink_to(source / "dags" / "run.sh")
    (source / "dags" / "__pycache__").mkdir()
    (source / "dags" / "__pycache__" / "a.pyc").write_bytes(b"\0")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        archive.add(source / "dags", "dags")
    form = {tarfile.USTAR_FORMAT: "ustar", tarfile.GNU_FORMAT: "gnu", tarfile.PAX_FORMAT: "pax"}[style]
    packed = [buffer.getvalue()]
    for tool, flag in (("tar", f"--format={form}"), ("bsdtar", f"--format={form}".replace("=gnu", "=gnutar"))):
        if shutil.which(tool):
            packed.append(subprocess.check_output([tool, flag, "-C", source, "-cf", "-", "dags"]))
            packed.append(subprocess.check_output([tool, flag, "-C", source / "dags", "-cf", "-", "."]))
    bundles = [tree(data) for data in packed]
    assert bundles == bundles[:1] * len(packed)
    for data in packed[:2]:
        assert unpack(data) == tree(data, root=".", exclude=())


NAMES = st.lists(st.sampled_from(["a", "b", "é", "x.py", "n" * 120]), min_size=1, max_size=4).map("/".join)


@st.composite
def archives(draw):
    """Return a tar of files, folders and links in any order, with names written in any way."""
    parts = []
    for name in draw(st.lists(NAMES, max_size=7, unique=True)):
        raw = ("./" if draw(st.booleans()) else "") + draw(st.sampled_from(["", "dags/"])) + name
        raw = raw.encode()
        style = draw(st.sampled_from(["plain", "pax", "gnu"] if len(raw) < 100 else ["pax", "gnu"]))
        magic = draw(st.sampled_from([POSIX, GNU]))
        if style != "plain":
            parts.append(pax((b"path", raw), (b"mtime", b"1.5")) if style == "pax" else gnu_name(raw))
        short = raw if style == "plain" else b"short"
        kind = draw(st.sampled_from(["file", "file", "file", "folder", "symlink", "hard link"]))
        target = draw(NAMES.filter(lambda target: len(target) < 80)).encode()
        if kind == "file":
            content = draw(st.binary(max_size=1200))
            parts.append(file(short, content, magic=magic, mode=draw(st.sampled_from([0o644, 0o755, 0o600]))))
        elif kind == "folder":
            parts.append(folder(short, magic=magic))
        elif kind == "symlink":
            parts.append(symlink(short, draw(st.sampled_from([b"", b"../", b"./"])) + target, magic=magic))
        else:
            parts.append(hard_link(short, draw(st.sampled_from([b"", b"dags/", b"./dags/"])) + target, magic=magic))
    return tar(*parts)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(archives(), st.sampled_from([bytes, gz, zst]))
def test_whatever_is_accepted_others_see_the_same(unpack, data, pack):
    try:
        mine = tree(pack(data), root=".", exclude=(), allow_empty=True)
    except DagferryError:
        return
    assert unpack(data) == mine


FIELDS = [(0, 100), (100, 108), (108, 124), (124, 136), (136, 148), (156, 157), (157, 257), (257, 265), (265, 345)]
FIELDS += [(345, 369), (369, 500), (500, 512)]
ODD = [b"\0", b" ", b"/", b"./", b"..", b"0", b"1", b"7", b"8", b"x", b"L", b"S", b"D", b"5", b"\n", b"\x80", b"\xff"]
ODD += [
    b"00000000006",
    b"00000000000\x0000000000003\0",
    b"zzzzzzz\0",
    b"7 7",
    b"\t",
    b"+1",
    b"0o7\0",
    b" " * 12,
    bytes(12),
]
RECORDS = [
    (b"path", b"dags/from-pax"),
    (b"path", "é".encode()),
    (b"linkpath", b"a.py"),
    (b"mtime", b"1.5"),
    (b"uid", b"-"),
    (b"hdrcharset", b"BINARY"),
    (b"comment", b"a\nb=c"),
    (b"uname", b"\xff"),
    (b"SCHILY.filetype", b"sparse"),
    (b"SCHILY.dev", b"1"),
    (b"GNU.dumpdir", b"Yx\0"),
    (b"LIBARCHIVE.symlinktype", b"dir"),
    (b"size", b"0"),
    (b"size", b"7"),
    (b"size", b"1400"),
    (b" path", b"dags/from-blank"),
    (b"\tlinkpath", b"dags/1"),
    (b" size", b"512"),
    (b"GNU.volume.label", b"x"),
    (b"SCHILY.xattr.user.a", b"b"),
    (b"mode", b"0"),
    (b"type", b"5"),
]


@st.composite
def odd_archives(draw):
    """Return a tar with headers that nobody would write, but with the right checksums."""
    parts = [A]
    for number in range(draw(st.integers(1, 3))):
        magic = draw(st.sampled_from([POSIX, GNU]))
        records = draw(st.lists(st.sampled_from(RECORDS), max_size=3, unique_by=lambda one: one[0]))
        extensions = [b"", gnu_name(b"dags/from-gnu"), gnu_name(b"a.py", b"K"), pax(*records)]
        extensions += [pax(*records, kind=b"g"), pax(*records) + pax((b"a", b"b"), kind=b"g")]
        parts.append(draw(st.sampled_from(extensions)))
        low, high = draw(st.sampled_from(FIELDS))
        at = draw(st.integers(low, high - 1))
        kind = draw(st.sampled_from([b"0", b"0", b"0", b"\0", b"1", b"2", b"5"]))
        content = b"" if kind in {b"1", b"2", b"5"} else b"content" * draw(st.sampled_from([0, 1, 200]))
        target = {b"1": b"dags/a.py", b"2": b"a.py"}.get(kind, b"") + draw(st.sampled_from([b"", b"", b"/"]))
        fields = {at: draw(st.sampled_from(ODD))[: high - at]}
        parts.append(file(b"dags/%d" % number, content, kind=kind, target=target, magic=magic, fields=fields))
    parts.append(draw(st.sampled_from([b"", b"", file(b"dags/last"), pax((b"a", b"b"), kind=b"g")])))
    return tar(*parts)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd_archives())
def test_whatever_unusual_header_is_accepted_others_see_the_same(unpack, data):
    """They may complain about owners and times, which do not matter here, but must not leave anything out."""
    try:
        mine = tree(data, root=".", exclude=())
    except DagferryError:
        return
    assert unpack(data, may_complain=True) == mine


def test_whatever_damage_is_accepted_others_see_the_same(unpack):
    """Flipped bits where a plain tar has no checksum: in PAX headers, long names and padding."""
    data = tar(
        pax((b"comment", b"c"), kind=b"g"),
        pax((b"path", b"dags/" + b"p" * 120), (b"mtime", b"1.5"), (b"LIBARCHIVE.x", b"1")) + file(b"pax"),
        gnu_name(b"dags/" + b"g" * 120) + file(b"gnu", magic=GNU),
        pax((b"linkpath", b"a.py")) + symlink(b"dags/l", b"a.py"),
        A,
    )
    noise = random.Random(7)
    accepted = 0
    for _ in range(600):
        damaged = bytearray(data)
        damaged[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
        try:
            mine = tree(bytes(damaged), root=".", exclude=())
        except DagferryError:
            continue
        accepted += 1
        if bytes(damaged) != data:
            assert unpack(bytes(damaged)) == mine
    assert accepted > 50
