"""Tar headers: what is read, and that whatever is not strictly a tar is refused."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_core.archive.errors import (
    ArchiveCorrupt,
    ArchiveError,
    ArchiveTrailingData,
    ArchiveTruncated,
    ArchiveUnsupported,
    MemberTypeRefused,
    TooManyFiles,
)
from dagferry_core.archive.tar import Kind, members
from dagferry_core.limits import PIECE_BYTES
from tarmaker import (
    END,
    GNU,
    POSIX,
    file,
    folder,
    gnu_name,
    hard_link,
    header,
    padded,
    pax,
    pax_raw,
    record,
    symlink,
    tar,
)


def read(data, max_members=100):
    """Return all members of ``data`` with their contents."""
    return [
        (member.kind, member.path, member.target, member.mode, b"".join(member.chunks()))
        for member in members(io.BytesIO(data).read, max_members)
    ]


def names(data, max_members=100):
    return [path for _, path, _, _, _ in read(data, max_members)]


def test_members_come_in_order_with_what_their_headers_say():
    data = tar(
        folder(b"dags/"),
        file(b"dags/a.py", b"a = 1\n", mode=0o4755),
        symlink(b"dags/b.py", b"a.py"),
        hard_link(b"dags/c.py", b"dags/a.py"),
        file(b"dags/empty", b"", kind=b"\0"),
    )
    assert read(data) == [
        (Kind.FOLDER, b"dags/", b"", 0o755, b""),
        (Kind.FILE, b"dags/a.py", b"", 0o4755, b"a = 1\n"),
        (Kind.SYMLINK, b"dags/b.py", b"a.py", 0o644, b""),
        (Kind.HARD_LINK, b"dags/c.py", b"dags/a.py", 0o644, b""),
        (Kind.FILE, b"dags/empty", b"", 0o644, b""),
    ]


def test_content_that_nobody_takes_is_skipped():
    found = members(io.BytesIO(tar(file(b"a", b"x" * 1000), file(b"b", b"y" * 513), file(b"c"))).read, 10)
    assert next(found).path == b"a"
    second = next(found)
    assert next(second.chunks()) == b"y" * 513
    assert [member.path for member in found] == [b"c"]


def test_content_comes_in_pieces():
    size = 2 * PIECE_BYTES + 1
    for member in members(io.BytesIO(tar(file(b"a", bytes(size)))).read, 10):
        assert [len(piece) for piece in member.chunks()] == [PIECE_BYTES, PIECE_BYTES, 1]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([file(b"b.py", prefix=b"dags/sub")], b"dags/sub/b.py", id="ustar prefix"),
        pytest.param([file(b"n" * 100, prefix=b"p" * 155)], b"p" * 155 + b"/" + b"n" * 100, id="full fields"),
        pytest.param([gnu_name(b"long" * 100), file(b"short", magic=GNU)], b"long" * 100, id="GNU long name"),
        pytest.param([gnu_name(b"long"), file(b"b.py", prefix=b"dags")], b"long", id="a long name has no prefix"),
        pytest.param([pax((b"path", b"long" * 100)), file(b"b.py", prefix=b"dags")], b"long" * 100, id="PAX path"),
        pytest.param([pax((b"path", "ü\n".encode())), file()], "ü\n".encode(), id="PAX path with a newline"),
        pytest.param([pax((b"mtime", b"1.5")), file(b"b.py")], b"b.py", id="PAX without a path"),
        pytest.param([pax(), file(b"b.py")], b"b.py", id="PAX without records"),
        pytest.param([pax((b"comment", b"0" * 40), kind=b"g"), file(b"b.py")], b"b.py", id="git's global comment"),
        pytest.param([pax((b"path", b"p")), pax((b"a", b""), kind=b"g"), file()], b"p", id="a global header between"),
    ],
)
def test_names_come_from_the_header_that_counts(parts, expected):
    assert names(tar(*parts)) == [expected]


@pytest.mark.parametrize(
    "part",
    [pax((b"linkpath", b"t" * 300)), gnu_name(b"t" * 300, b"K"), gnu_name(b"n", b"L") + gnu_name(b"t" * 300, b"K")],
)
def test_long_targets_come_from_extended_headers(part):
    assert [target for _, _, target, _, _ in read(tar(part, symlink(b"l", b"short")))] == [b"t" * 300]


def test_an_extended_header_counts_for_one_member_only():
    data = tar(pax((b"path", b"one")), file(b"x"), file(b"two"), gnu_name(b"three"), file(b"y"), file(b"four"))
    assert names(data) == [b"one", b"two", b"three", b"four"]


@pytest.mark.parametrize(
    "number", [b"0000644\0", b"000644 \0", b"   644 \0", b"644\0\0\0\0\0", b"644     ", b"00000644"]
)
def test_numbers_are_octal_in_every_usual_form(number):
    assert [mode for _, _, _, mode, _ in read(tar(file(fields={100: number})))] == [0o644]


def test_an_empty_number_is_zero():
    assert names(tar(header(fields={124: bytes(12)}))) == [b"dags/a.py"]


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(st.lists(st.tuples(st.text("abü/", min_size=1, max_size=120), st.binary(max_size=1500)), max_size=5))
def test_what_tarfile_writes_is_read_back(style, wanted):
    buffer = io.BytesIO()
    wanted = [(name.rstrip("/") + "x", content) for name, content in wanted]
    if style == tarfile.USTAR_FORMAT:
        wanted = [(name[:40], content) for name, content in wanted]
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        for name, content in wanted:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert [(path.decode(), content) for _, path, _, _, content in read(buffer.getvalue())] == wanted


def without_checksum(block):
    return block[:148] + b"        " + block[156:]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", ArchiveTruncated, id="nothing"),
        pytest.param(bytes(512), ArchiveTruncated, id="one block of zeros"),
        pytest.param(file(), ArchiveTruncated, id="no end marker"),
        pytest.param(file() + bytes(512), ArchiveTruncated, id="half an end marker"),
        pytest.param(file() + bytes(512) + file(), ArchiveCorrupt, id="a lone block of zeros"),
        pytest.param(tar(file()) + file(), ArchiveTrailingData, id="a member after the end"),
        pytest.param(tar(file()) + tar(file()), ArchiveTrailingData, id="two tars"),
        pytest.param(tar(file()) + bytes(5000) + b"x", ArchiveTrailingData, id="a byte after zeros"),
        pytest.param(tar(file()) + bytes(100), ArchiveTruncated, id="a part of a block of zeros"),
        pytest.param(tar(file(checksum=b"000000\0 ")), ArchiveCorrupt, id="wrong checksum"),
        pytest.param(tar(without_checksum(file())), ArchiveCorrupt, id="no checksum"),
        pytest.param(tar(file(checksum=b"abcdef\0 ")), ArchiveCorrupt, id="checksum of letters"),
        pytest.param(tar(file(magic=bytes(8))), ArchiveUnsupported, id="v7"),
        pytest.param(tar(file(magic=b"ustar\x0001"[:8])), ArchiveUnsupported, id="a later ustar"),
        pytest.param(tar(file(magic=b"ustar 00")), ArchiveUnsupported, id="half GNU"),
    ],
)
def test_what_is_not_one_whole_tar_is_refused(data, error):
    with pytest.raises(error):
        read(data)


@pytest.mark.parametrize(
    ("field", "error"),
    [
        (b"0000000008\0\0", ArchiveCorrupt),
        (b"-0000000001\0", ArchiveCorrupt),
        (b"+0000000001\0", ArchiveCorrupt),
        (b"0x000000001\0", ArchiveCorrupt),
        (b"1_0\0\0\0\0\0\0\0\0\0", ArchiveCorrupt),
        (b"1\0001\0\0\0\0\0\0\0\0\0", ArchiveCorrupt),
        (b"1 1         ", ArchiveCorrupt),
        (b"\t1          ", ArchiveCorrupt),
        (b"\x80" + bytes(10) + b"\x06", ArchiveUnsupported),
        (b"\xff" * 12, ArchiveUnsupported),
    ],
)
def test_a_size_that_is_no_plain_number_is_refused(field, error):
    with pytest.raises(error):
        read(tar(header(fields={124: field}), padded(b"a = 1\n")))


@pytest.mark.parametrize("kind", [b"3", b"4", b"6", b"7", b"A", b"D", b"N", b"V", b"X", b"\xff", b" "])
def test_a_member_of_another_type_is_refused(kind):
    with pytest.raises(MemberTypeRefused, match=r"dags/a\.py"):
        read(tar(header(kind=kind)))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([header(kind=b"S")], id="sparse"),
        pytest.param([header(size=6, kind=b"2", target=b"x"), padded(b"a = 1\n")], id="link with content"),
        pytest.param([file(b"dags/a/")], id="file with a trailing slash"),
        pytest.param([pax((b"size", b"7")), file()], id="another PAX size"),
        pytest.param([pax((b"size", b"06")), file()], id="a PAX size in octal"),
        pytest.param([pax((b"path", b"a"), kind=b"g"), file()], id="global PAX path"),
        pytest.param([pax((b"GNU.sparse.major", b"1")), file()], id="PAX sparse"),
        pytest.param([pax((b"SCHILY.realsize", b"9")), file()], id="star's sparse"),
        pytest.param([pax((b"path", b"a"), (b"path", b"b")), file()], id="PAX path twice"),
        pytest.param([pax((b"path", b"")), file()], id="empty PAX path"),
        pytest.param([pax((b"path", b"a")), pax((b"path", b"b")), file()], id="two PAX headers"),
        pytest.param([pax((b"linkpath", b"b")), gnu_name(b"a", b"K"), symlink(b"l", b"c")], id="targets by both"),
        pytest.param([*[pax((b"a", b"b"), kind=b"g")] * 5, file()], id="five global headers"),
        pytest.param([pax(*[(b"a", b"b")] * 101), file()], id="101 PAX records"),
        pytest.param([pax((b"comment", b"x" * 66_000)), file()], id="PAX header over 64 KiB"),
        pytest.param([gnu_name(b"x" * 5000), file()], id="GNU long name over 4 KiB"),
    ],
)
def test_what_programs_read_differently_is_refused(parts):
    with pytest.raises(ArchiveUnsupported):
        read(tar(*parts))


def test_the_largest_extended_headers_are_read():
    size = 64 * 1024 - 6 - len("comment=\n")
    assert names(tar(pax_raw(record(b"comment", b"x" * size)), file(b"a"))) == [b"a"]
    assert names(tar(gnu_name(b"x" * 4095), file(b"a"))) == [b"x" * 4095]
    assert names(tar(pax(*[(b"a", b"b")] * 100), file(b"a"))) == [b"a"]


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"0 a=b\n",
        b"6 a=b",
        b"7 a=b\n",
        b"5 a=b\n",
        b"06 a=b\n",
        b"-6 a=b\n",
        b"6\ta=b\n",
        b" 6 a=b\n",
        b"6 a:b\n",
        b"5 =b\n",
        b"6 a=b\n\0\0",
        b"6 a=b\n99 path=x\n",
        b"9999999 a=b\n",
        b"\xb2 a=b\n",
    ],
)
def test_a_malformed_pax_record_is_refused(body):
    with pytest.raises(ArchiveCorrupt, match="PAX"):
        read(tar(pax_raw(body), file()))


@pytest.mark.parametrize("part", [pax((b"path", b"a")), pax((b"mtime", b"1")), gnu_name(b"a")])
def test_an_extended_header_without_its_member_is_refused(part):
    with pytest.raises(ArchiveCorrupt, match="without the member"):
        read(tar(file(), part))


def test_git_archives_of_an_empty_tree_have_a_global_header_only():
    assert read(tar(pax((b"comment", b"0" * 40), kind=b"g"))) == []


def test_an_empty_long_name_is_refused():
    with pytest.raises(ArchiveCorrupt):
        read(tar(gnu_name(b""), file()))


def test_the_numbers_of_members_and_of_extended_headers_are_limited():
    assert len(names(tar(*[file()] * 10), 10)) == 10
    with pytest.raises(TooManyFiles):
        names(tar(*[file()] * 11), 10)
    both = gnu_name(b"a") + gnu_name(b"b", b"K") + symlink(b"l", b"t")
    assert len(names(tar(*[both] * 5), 10)) == 5
    with pytest.raises(TooManyFiles):
        names(tar(*[both] * 6), 10)


@given(st.lists(st.sampled_from([POSIX, GNU, bytes(512), END, file(), pax((b"path", b"p")), b"\xff" * 512])))
def test_any_sequence_of_blocks_is_members_or_an_error(parts):
    data = b"".join(parts)
    try:
        found = names(data)
    except ArchiveError:
        return
    assert len(found) == data.count(file())


@given(st.data())
def test_any_header_that_is_read_says_what_it_says(data):
    """Noise in the fields of a header, with a right checksum: an error, or a member within the limits."""
    fields = {data.draw(st.integers(0, 480)): data.draw(st.binary(min_size=1, max_size=20)) for _ in range(3)}
    try:
        [(kind, path, _, mode, content)] = read(tar(file(fields=fields)))
    except (ArchiveError, MemberTypeRefused):
        return
    assert kind in Kind
    assert len(path) <= 256
    assert mode < 8**8
    assert content == b"a = 1\n"[: len(content)]
