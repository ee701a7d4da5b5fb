"""Truncation and bit flips: an error always, and never a smaller tree.

The incident behind it: half an upload that unpacks without an error deletes half of the DAGs.
"""

import random

import pytest

from dagferry_core.archive.errors import ArchiveError
from dagferry_core.errors import DagferryError
from tarmaker import GNU, check, file, folder, gnu_name, gz, hard_link, pax, symlink, tar, tree, zst

NOISE = random.Random(2026)
PLAIN = tar(
    pax((b"comment", b"9a" * 20), kind=b"g"),
    folder(b"dags/"),
    file(b"dags/first.py", NOISE.randbytes(5000)),
    pax((b"path", b"dags/" + b"long" * 40 + b".py"), (b"mtime", b"1.5")) + file(b"short", b"x = 1\n" * 100),
    gnu_name(b"dags/" + b"name" * 40 + b".py") + file(b"short", NOISE.randbytes(1024), magic=GNU),
    symlink(b"dags/soft.py", b"first.py"),
    hard_link(b"dags/hard.py", b"dags/first.py"),
    file(b"dags/__pycache__/first.pyc", NOISE.randbytes(2000)),
    folder(b"dags/sub/"),
    file(b"dags/sub/empty.py", b""),
    file(b"dags/sub/last.py", NOISE.randbytes(3000), mode=0o755),
) + bytes(9 * 512)
WHOLE = tree(PLAIN)
EXCLUDED = 1
FORMS = {"plain": PLAIN, "gzip": gz(PLAIN), "zstd": zst(PLAIN)}
END_MARKER = len(PLAIN) - 11 * 512
CUTS = [(form, NOISE.randrange(len(FORMS[form]))) for form in FORMS for _ in range(334)]
FLIPS = [(form, NOISE.randrange(8 * len(FORMS[form]))) for form in FORMS for _ in range(334)]


def test_the_archive_is_intact_before_it_is_damaged():
    assert len(WHOLE) == 7
    assert [tree(data) for data in FORMS.values()] == [WHOLE] * 3
    assert PLAIN[END_MARKER:] == bytes(11 * 512)


def assert_cut_is_told(form, length):
    data = FORMS[form][:length]
    if form == "plain" and length >= END_MARKER + 1024 and length % 512 == 0:
        # Only zeros behind the end marker are missing; GNU tar writes them, others do not.
        assert tree(data) == WHOLE
        return
    with pytest.raises(ArchiveError):
        check(data)


@pytest.mark.parametrize("form", FORMS)
def test_a_truncation_at_every_block_is_reported(form):
    for length in range(0, len(FORMS[form]), 512):
        assert_cut_is_told(form, length)


def test_a_truncation_anywhere_is_reported():
    assert len(CUTS) >= 1000
    for form, length in CUTS:
        assert_cut_is_told(form, length)


@pytest.mark.parametrize("pack", [gz, zst])
def test_a_truncation_before_packing_is_reported(pack):
    """A tar that was cut, then packed well: the compression proves nothing about the tar."""
    for length in range(0, END_MARKER + 1024, 512):
        with pytest.raises(ArchiveError):
            check(pack(PLAIN[:length]))


def test_a_member_that_is_missing_in_the_middle_is_not_taken_for_the_end():
    for start in range(512, END_MARKER, 512):
        blank = PLAIN[:start] + bytes(512) + PLAIN[start + 512 :]
        try:
            assert tree(blank).keys() == WHOLE.keys(), "only content was blanked"
        except DagferryError:
            continue


def test_a_flipped_bit_never_makes_a_smaller_tree():
    """In a compressed archive a flip is told, or was in a field that has no part in the content.

    In a plain one, content and PAX headers have no checksum: a flip there can make another content or another name,
    but not fewer files.
    """
    assert len(FLIPS) >= 1000
    accepted = dict.fromkeys(FORMS, 0)
    for form, bit in FLIPS:
        data = bytearray(FORMS[form])
        data[bit // 8] ^= 1 << bit % 8
        try:
            checked = check(bytes(data))
        except DagferryError:
            continue
        accepted[form] += 1
        assert len(checked.manifest.files) + checked.excluded_files == len(WHOLE) + EXCLUDED
        assert form == "plain" or tree(bytes(data)) == WHOLE
    assert accepted["gzip"] + accepted["zstd"] <= 5
    assert accepted["plain"] > 100, "flips of content were tried"


def test_a_flipped_bit_in_a_header_is_recognized_by_its_checksum():
    headers = [at for at in range(0, END_MARKER, 512) if PLAIN[at + 257 : at + 262] == b"ustar"]
    assert len(headers) == 13
    for start in headers:
        for bit in range(0, 8 * 512, 7):
            data = bytearray(PLAIN)
            data[start + bit // 8] ^= 1 << bit % 8
            checksum = slice(start + 148, start + 156)
            if data[checksum].strip(b"\0 ") == PLAIN[checksum].strip(b"\0 "):
                with pytest.raises(ArchiveError):
                    check(bytes(data))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("more", [b"\x01", b"\n", b"#" * 512, PLAIN, gz(PLAIN), zst(PLAIN), gz(b""), zst(b"")])
def test_whatever_is_appended_is_reported(form, more):
    with pytest.raises(ArchiveError):
        check(FORMS[form] + more)


def test_every_two_halves_of_two_uploads_are_reported():
    """As when two clients write to one file, or a proxy mixes two bodies."""
    other = gz(tar(*[file(b"dags/other%d.py" % n, NOISE.randbytes(700)) for n in range(20)]))
    mine = FORMS["gzip"]
    for cut in range(20, min(len(mine), len(other)), 97):
        with pytest.raises(ArchiveError):
            check(mine[:cut] + other[cut:])
