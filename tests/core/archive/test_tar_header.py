"""The headers of a tar: what programs could read differently is an error."""

import pytest

from dagferry_core.archive.errors import ArchiveCorrupt, ArchiveUnsupported
from dagferry_core.archive.tar_header import Header, begins_tar, parse_header, pax_names
from dagferry_core.limits import MAX_PAX_RECORDS
from tarmaker import GNU, header


def test_a_header_is_read() -> None:
    block = header(b"dags/run.sh", 1234, mode=0o755, target=b"where")
    assert parse_header(block) == Header(b"dags/run.sh", 0o755, 1234, b"0", b"where")


def test_a_posix_prefix_precedes_the_path() -> None:
    assert parse_header(header(b"a.py", prefix=b"dags/team")).path == b"dags/team/a.py"


def test_numbers_may_have_blanks_around_them_or_be_missing() -> None:
    block = header(fields={100: b"  644 \0\0", 124: bytes(12), 108: bytes(16), 136: b"\x80" + bytes(11)})
    assert parse_header(block) == Header(b"dags/a.py", 0o644, 0, b"0", b"")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({100: b"000064x\0"}, "as its mode"),
        ({124: b"1234567 890\0"}, "as its size"),
        ({124: b" " * 12}, "as its size"),
        ({108: b"owner\0\0\0"}, "as its owner"),
        ({116: b"-1\0"}, "as its group"),
        ({136: b"9\0"}, "as its time"),
        ({329: b"x"}, "as its device's major number"),
        ({337: b"x"}, "as its device's minor number"),
    ],
)
def test_a_field_that_is_no_number_is_damage(fields, told) -> None:
    with pytest.raises(ArchiveCorrupt, match=told):
        parse_header(header(fields=fields))


@pytest.mark.parametrize("field", [100, 124])
def test_a_binary_number_is_not_supported(field) -> None:
    with pytest.raises(ArchiveUnsupported, match="as a binary number"):
        parse_header(header(fields={field: b"\x80"}))


@pytest.mark.parametrize("checksum", [b"000000\0 ", b"        ", b"xxxxxx\0 "])
def test_a_wrong_checksum_is_damage(checksum) -> None:
    block = header(checksum=checksum)
    with pytest.raises(ArchiveCorrupt, match=r"its checksum is wrong. It names 'dags/a\.py'"):
        parse_header(block)
    assert begins_tar(block), "a damaged tar is one all the same"


def test_another_format_is_not_supported_and_gnu_without_its_rare_fields_is() -> None:
    old = header(magic=bytes(8))
    with pytest.raises(ArchiveUnsupported, match="neither in POSIX nor in GNU format"):
        parse_header(old)
    assert begins_tar(old)
    assert parse_header(header(magic=GNU)).path == b"dags/a.py"
    with pytest.raises(ArchiveUnsupported, match="incremental or sparse"):
        parse_header(header(magic=GNU, prefix=b"x"))


@pytest.mark.parametrize("block", [b"", b"ustar", bytes(511), b"x" * 512, header(magic=bytes(8))[:511]])
def test_what_is_no_header_begins_no_tar(block) -> None:
    assert not begins_tar(block)


def record(keyword: bytes, value: bytes) -> bytes:
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def test_the_names_and_the_size_of_a_pax_header_are_read() -> None:
    data = record(b"path", b"a=b.py") + record(b"mtime", b"1.5") + record(b"linkpath", b"x\n") + record(b"size", b"7")
    assert pax_names(data) == {b"path": b"a=b.py", b"linkpath": b"x\n", b"size": b"7"}
    assert pax_names(b"") == {}


@pytest.mark.parametrize(
    "data",
    [
        b"10 path=a.p",
        b"10 path=a.\n",
        b"99 path=a.py\n",
        b"012 path=ab\n",
        b"x path=a.py\n",
        b"0 path=a.py\n",
        b"9 a b=cd\n",
        b"7 a bc\n",
        b"8 =abcd\n",
        b"8 a\0=cd\n",
        b"\n",
    ],
)
def test_a_malformed_record_is_damage(data) -> None:
    with pytest.raises(ArchiveCorrupt, match="malformed record"):
        pax_names(data)


@pytest.mark.parametrize("keyword", [b"SCHILY.realsize", b"SUN.holesdata", b"GNU.sparse.map"])
def test_a_keyword_that_programs_understand_differently_is_not_supported(keyword) -> None:
    with pytest.raises(ArchiveUnsupported, match="which programs interpret differently"):
        pax_names(record(keyword, b"1"))


@pytest.mark.parametrize("data", [record(b"path", b"a") * 2, record(b"size", b"")])
def test_a_name_twice_or_empty_is_not_supported(data) -> None:
    with pytest.raises(ArchiveUnsupported, match="twice or empty"):
        pax_names(data)


def test_so_many_records_and_no_more_are_read() -> None:
    data = record(b"comment", b"x") * MAX_PAX_RECORDS
    assert pax_names(data) == {}
    with pytest.raises(ArchiveUnsupported, match=f"more than {MAX_PAX_RECORDS} records"):
        pax_names(data + record(b"comment", b"x"))
