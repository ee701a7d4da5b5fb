"""Archives of which different programs see different members: each is refused, so that no check can be fooled."""

import pytest

from tarmaker import GNU, check, code, file, folder, gnu_name, hard_link, header, pax, pax_raw, symlink, tar, tree

UNSUPPORTED = "archive_unsupported"
CORRUPT = "archive_corrupt"
TRUNCATED = "archive_truncated"
TRAILING_DATA = "archive_trailing_data"
TYPE_REFUSED = "member_type_refused"

GOOD = file(b"dags/good.py")
HIDDEN = tar(file(b"dags/hidden.py"))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(
            [pax((b"size", b"%d" % len(HIDDEN))), header(b"dags/a", 0), HIDDEN],
            UNSUPPORTED,
            id="TARmageddon, CVE-2025-62518: PAX has a size, the header says 0",
        ),
        pytest.param(
            [pax((b"size", b"0")), header(b"dags/a", len(HIDDEN)), HIDDEN],
            UNSUPPORTED,
            id="TARmageddon, the other way round",
        ),
        pytest.param([pax((b"size", b"6 ")), file(b"dags/a")], UNSUPPORTED, id="a PAX size and a blank"),
        pytest.param([pax((b"size", b"+6")), file(b"dags/a")], UNSUPPORTED, id="a PAX size with a sign"),
        pytest.param([pax((b"size", b"6"), (b"size", b"6")), file(b"dags/a")], UNSUPPORTED, id="a PAX size twice"),
        pytest.param(
            [pax((b"size", b"6")), gnu_name(b"dags/b"), file(b"dags/a")],
            UNSUPPORTED,
            id="GHSA-vmf3-w455-68vh: the right PAX size, but a GNU long name in between",
        ),
        pytest.param(
            [pax((b"size", b"6")), pax((b"a", b"b"), kind=b"g"), file(b"dags/a")],
            UNSUPPORTED,
            id="the right PAX size, but a global header in between",
        ),
        pytest.param(
            [pax((b"size", b"6"), kind=b"g"), file(b"dags/a")], UNSUPPORTED, id="TARmageddon, for all members"
        ),
        pytest.param(
            [pax((b"size", b"2048")), gnu_name(b"dags/b"), file(b"dags/a")],
            UNSUPPORTED,
            id="GHSA-vmf3-w455-68vh: a PAX size in front of a GNU long name",
        ),
        pytest.param(
            [pax((b"SCHILY.realsize", b"0")), file(b"dags/a")], UNSUPPORTED, id="libarchive: star's real size"
        ),
        pytest.param(
            [pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")), file(b"dags/a", b"1\n0\n6\n")],
            UNSUPPORTED,
            id="a sparse file in PAX, whose map is content to others",
        ),
        pytest.param(
            [pax((b"GNU.sparse.name", b"dags/other")), file(b"dags/a")],
            UNSUPPORTED,
            id="another name by sparse",
        ),
        pytest.param([header(b"dags/a", 0, kind=b"S", magic=GNU)], UNSUPPORTED, id="a sparse file of GNU's"),
        pytest.param(
            [file(b"dags/a", magic=GNU, fields={386: b"00000000000\x0000000000003\0"})],
            UNSUPPORTED,
            id="libarchive: a sparse map in a plain file of GNU's format",
        ),
        pytest.param(
            [file(b"dags/a", magic=GNU, fields={483: b"00000000003\0"})],
            UNSUPPORTED,
            id="libarchive: a real size in a plain file of GNU's format",
        ),
        pytest.param(
            [file(b"dags/a", magic=GNU, fields={482: b"1"})],
            UNSUPPORTED,
            id="libarchive: more of a sparse map to follow",
        ),
        pytest.param(
            [file(b"dags/a", magic=GNU, fields={369: b"00000000003\0"})],
            UNSUPPORTED,
            id="the rest of a file from another volume",
        ),
        pytest.param([pax((b"SUN.holesdata", b" 0 6")), file(b"dags/a")], UNSUPPORTED, id="libarchive: Solaris' holes"),
        pytest.param(
            [pax((b"linkpath", b"good.py")), gnu_name(b"x", b"K"), symlink(b"dags/a", b"y")], UNSUPPORTED, id="x, K"
        ),
        pytest.param(
            [pax((b"linkpath", b"x"), kind=b"g"), symlink(b"dags/a", b"good.py")], UNSUPPORTED, id="linkpath for all"
        ),
        pytest.param(
            [hard_link(b"dags/a", b"dags/good.py", size=512) + bytes(512)], UNSUPPORTED, id="a filled hard link"
        ),
        pytest.param([header(b"dags/a", fields={124: b"\xff" * 12})], UNSUPPORTED, id="CVE-2025-8194: a negative size"),
        pytest.param(
            [header(b"dags/a", fields={124: b"\x80" + bytes(3) + b"\xff" * 8})], UNSUPPORTED, id="a huge size"
        ),
        pytest.param([header(b"dags/a", fields={124: b"-0000000512\0"})], CORRUPT, id="a size with a minus"),
        pytest.param([header(b"dags/a", fields={124: b"12 34567890\0"})], CORRUPT, id="a size of two numbers"),
        pytest.param([header(b"dags/a", fields={124: b"000000000008"})], CORRUPT, id="a size that is not octal"),
        pytest.param([header(b"dags/a", fields={100: b"rwxr-xr-"})], CORRUPT, id="a mode in letters"),
        pytest.param([header(b"dags/a", fields={100: b" " * 8})], CORRUPT, id="GNU tar: a blank mode is every bit"),
        *(
            pytest.param([header(b"dags/a", fields={at: junk})], CORRUPT, id=f"tarfile ends at {junk!r} as its {what}")
            for what, at in (("owner", 108), ("group", 116), ("time", 136), ("major", 329), ("minor", 337))
            for junk in (b"zzzzzzz\0", b"0000008\0", b"7 7    \0", b"\x8100000\0", b"\t000000\0", b"-000001\0")
        ),
        pytest.param([header(b"dags/a", fields={100: b"\x80" * 8})], UNSUPPORTED, id="a binary mode"),
        pytest.param([file(b"dags/a", checksum=b"       \0")], CORRUPT, id="a blank checksum"),
        pytest.param([file(b"dags/a", checksum=b"0000000\0")], CORRUPT, id="a zero checksum"),
        pytest.param([file(b"dags/a", magic=bytes(8))], UNSUPPORTED, id="a header before 1988"),
        pytest.param([file(b"dags/a", magic=b"ustar\0\0\0")], UNSUPPORTED, id="a ustar without a version"),
        pytest.param([pax((b"path", b"dags/b")) + gnu_name(b"dags/c"), file(b"dags/a")], UNSUPPORTED, id="x, L"),
        pytest.param([gnu_name(b"dags/c") + pax((b"path", b"dags/b")), file(b"dags/a")], UNSUPPORTED, id="L, x"),
        pytest.param([gnu_name(b"dags/b") * 2, file(b"dags/a")], UNSUPPORTED, id="L, L"),
        pytest.param([gnu_name(b"good.py", b"K") * 2, symlink(b"dags/a", b"x")], UNSUPPORTED, id="K, K"),
        pytest.param([pax((b"path", b"dags/b")) * 2, file(b"dags/a")], UNSUPPORTED, id="x, x"),
        pytest.param([pax((b"path", b"dags/b"), (b"path", b"dags/c")), file(b"dags/a")], UNSUPPORTED, id="path twice"),
        pytest.param([pax((b"path", b"")), file(b"dags/a")], UNSUPPORTED, id="a path that is taken back"),
        pytest.param([pax((b"path", b"dags/b"), kind=b"g"), file(b"dags/a")], UNSUPPORTED, id="path for all"),
        pytest.param([pax_raw(b"99 path=dags/b\n"), file(b"dags/a")], CORRUPT, id="a record that is too long"),
        pytest.param([pax_raw(b"10 path=dags/b\n"), file(b"dags/a")], CORRUPT, id="a record that is too short"),
        pytest.param([pax_raw(b"16 path=dags/b\n\0"), file(b"dags/a")], CORRUPT, id="a record without newline"),
        pytest.param([pax_raw(b"15 path dags/b\n"), file(b"dags/a")], CORRUPT, id="a record without a value"),
        pytest.param([pax_raw(bytes(100)), file(b"dags/a")], CORRUPT, id="records of zeros"),
        *(
            pytest.param([pax((keyword, value)), file(b"dags/a")], CORRUPT, id=f"a keyword {keyword!r}")
            for keyword, value in (
                (b" path", b"dags/b"),  # GNU tar takes it for the path
                (b"\tpath", b"dags/b"),
                (b" \t path", b"dags/b"),
                (b"path ", b"dags/b"),
                (b"path\0", b"dags/b"),
                (b"\npath", b"dags/b"),
                (b" size", b"1024"),
                (b" GNU.sparse.name", b"dags/b"),
            )
        ),
        pytest.param(
            [pax((b" linkpath", b"good.py")), symlink(b"dags/a", b"x")], CORRUPT, id="GNU tar: a blank and a link"
        ),
        pytest.param(
            [pax((b" path", b"dags/b"), kind=b"g"), file(b"dags/a")], CORRUPT, id="GNU tar: a blank and a path for all"
        ),
        pytest.param([pax((b"comment", b"x"), kind=b"g")], CORRUPT, id="tarfile: a global header at the end"),
        pytest.param([header(b"x", 10_000, kind=b"x"), file(b"dags/a")], TRUNCATED, id="PAX that eats a member"),
        pytest.param([gnu_name(b"dags/b")], CORRUPT, id="a name without a member"),
        pytest.param([pax((b"path", b"dags/b"))], CORRUPT, id="a PAX header without a member"),
        pytest.param(
            [gnu_name(b"dags/x.py"), header(b"dags/x/", len(HIDDEN), kind=b"\0", magic=GNU), HIDDEN],
            UNSUPPORTED,
            id="CVE-2025-13462: a file of the old type, with a slash behind its short name",
        ),
        pytest.param(
            [pax((b"path", b"dags/x.py")), header(b"dags/x/", len(HIDDEN), kind=b"\0"), HIDDEN],
            UNSUPPORTED,
            id="CVE-2025-13462, with a PAX path",
        ),
        pytest.param([gnu_name(b"dags/x/"), header(b"dags/x", kind=b"\0")], UNSUPPORTED, id="a slash in a long name"),
        pytest.param(
            [file(b"a.py", magic=GNU, prefix=b"dags")], UNSUPPORTED, id="tarfile: a prefix in a header of GNU's format"
        ),
        pytest.param(
            [file(b"dags/a.py", magic=GNU, prefix=b"15006000000\x0015006000000\0")],
            UNSUPPORTED,
            id="tarfile: a prefix that is times",
        ),
        pytest.param([file(b"dags/a/", kind=b"\0")], UNSUPPORTED, id="an old folder, or a file"),
        pytest.param([file(b"dags/a/")], UNSUPPORTED, id="a file with a slash"),
        pytest.param([file(b"", prefix=b"dags")], UNSUPPORTED, id="a prefix without a name"),
        pytest.param([header(b"dags/d/", 1024, kind=b"5") + HIDDEN[:1024]], UNSUPPORTED, id="a filled folder"),
        pytest.param([symlink(b"dags/a", b"good.py", size=512) + bytes(512)], UNSUPPORTED, id="a filled link"),
        *(
            pytest.param([extension, link(b"dags/l.py", b"")], UNSUPPORTED, id=f"bsdtar: {link.__name__} is a file {n}")
            for link, target in ((symlink, b"good.py"), (hard_link, b"dags/good.py"))
            for n, extension in enumerate([gnu_name(target, b"K"), pax((b"linkpath", target))])
        ),
        pytest.param(
            [hard_link(b"dags/h.py", b"dags/good.py/")], "link_refused", id="GNU tar: a hard link with a slash behind"
        ),
        pytest.param([header(b"dags/a", kind=b"7")], TYPE_REFUSED, id="a contiguous file"),
        pytest.param([header(b"dags/a", kind=b"3")], TYPE_REFUSED, id="a character device"),
        pytest.param([header(b"dags/a", kind=b"4")], TYPE_REFUSED, id="a block device"),
        pytest.param([header(b"dags/a", kind=b"6")], TYPE_REFUSED, id="a FIFO"),
        pytest.param([header(b"dags/a", kind=b"s")], TYPE_REFUSED, id="a socket"),
        pytest.param([header(b"dags/a", kind=b"M", magic=GNU)], UNSUPPORTED, id="a part of another volume"),
        pytest.param([header(b"dags/a", kind=b"V", magic=GNU)], TYPE_REFUSED, id="a volume's name"),
        pytest.param([header(b"dags/a", kind=b"D", magic=GNU)], TYPE_REFUSED, id="a dumped folder"),
        pytest.param([header(b"dags/a", kind=b"X")], TYPE_REFUSED, id="a PAX header of Solaris"),
        pytest.param([header(b"dags/a", kind=b"\x80")], TYPE_REFUSED, id="an unknown type"),
        pytest.param([bytes(512), file(b"dags/after.py")], CORRUPT, id="a lone block of zeros"),
    ],
)
def test_what_programs_read_differently_is_refused(parts, expected):
    assert code(tar(GOOD, *parts)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(tar(GOOD) + tar(file(b"dags/more.py")), TRAILING_DATA, id="a tar behind the tar"),
        pytest.param(tar(GOOD) + bytes(20_480) + tar(GOOD), TRAILING_DATA, id="a tar behind much padding"),
        pytest.param(tar(GOOD) + b"\n", TRAILING_DATA, id="a newline behind the tar"),
        pytest.param(tar(GOOD) + bytes(7), TRUNCATED, id="a part of a block"),
        pytest.param(GOOD, TRUNCATED, id="no end marker"),
        pytest.param(GOOD + bytes(512), TRUNCATED, id="half an end marker"),
        pytest.param(tar(), "bundle_empty", id="an end marker alone"),
        pytest.param(bytes(512), TRUNCATED, id="half an end marker alone"),
        pytest.param(b"", TRUNCATED, id="no bytes"),
        pytest.param(b"\n" + tar(GOOD), "archive_not_recognized", id="a newline before the tar"),
        pytest.param(b"PK\x03\x04" + tar(GOOD)[4:], CORRUPT, id="a zip's first bytes in a tar"),
    ],
)
def test_an_archive_that_ends_elsewhere_is_refused(data, expected):
    assert code(data) == expected


def test_harmless_keywords_change_nothing():
    """What git, macOS and GNU tar write beside the names: none of it matters here."""
    comment = pax((b"comment", b"9a" * 20), kind=b"g")
    mac = pax((b"LIBARCHIVE.creationtime", b"1"), (b"SCHILY.xattr.com.apple", b"\0\n\xff=x"), (b"mtime", b"1.5"))
    owner = pax((b"uid", b"5000000000"), (b"uname", "ü".encode()), (b"atime", b"-1"), (b"hdrcharset", b"BINARY"))
    data = tar(comment, folder(b"dags/"), mac, file(b"dags/a.py"), owner, file(b"dags/b.py"))
    assert tree(data) == dict.fromkeys(["a.py", "b.py"], (b"a = 1\n", False))
    assert check(data).manifest.digest == check(tar(file(b"a.py"), file(b"b.py"))).manifest.digest
