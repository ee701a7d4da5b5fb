"""The manifest: one text for the same files, and a digest over it."""

import hashlib

import pytest

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_path
from dagferry_core.bundle.manifest import EMPTY, MAX_MANIFEST_BYTES, Entry, Manifest
from dagferry_core.errors import FormatError
from dagferry_core.limits import MAX_PATHS_BYTES, MOST_EXPANDED_BYTES, MOST_FILE_BYTES, MOST_FILES

SHA = hashlib.sha256(b"").hexdigest()
A, B, C = (Entry(path, 0, 0o644, SHA) for path in ("a.py", "b/c.py", "ä.py"))


def test_the_text_is_the_documented_one() -> None:
    manifest = Manifest([B, A._replace(mode=0o755, size=12)])
    assert manifest.text.decode() == f"dagferry-manifest 1\n{SHA} 0755 12 a.py\n{SHA} 0644 0 b/c.py\n"
    assert manifest.digest == "sha256:" + hashlib.sha256(manifest.text).hexdigest()


def test_order_is_by_the_bytes_of_the_path_and_not_by_who_packed_it() -> None:
    assert Manifest([C, B, A]).text == Manifest([A, B, C]).text
    assert list(Manifest([C, B, A]).files) == ["a.py", "b/c.py", "ä.py"]


def test_it_reads_what_it_writes() -> None:
    manifest = Manifest([A, B, C._replace(path="with space .py")])
    assert Manifest.parse(manifest.text).files == manifest.files
    assert Manifest.parse(EMPTY.text).files == {}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"dagferry-manifest 2\n",
        b"dagferry-manifest 1",
        f"dagferry-manifest 1\n{SHA} 0644 0 b.py\n{SHA} 0644 0 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644 0 a.py\n{SHA} 0644 0 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0666 0 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644 00 a.py\n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644 0 \n".encode(),
        f"dagferry-manifest 1\n{SHA} 0644\n".encode(),
        f"dagferry-manifest 1\n{SHA[1:]} 0644 0 a.py\n".encode(),
    ],
)
def test_any_other_form_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError):
        Manifest.parse(text)


def test_changes_are_distinguished() -> None:
    changes = Manifest([A, B._replace(size=1)]).changes_from(Manifest([B, C]))
    assert changes == (["a.py"], ["b/c.py"], ["ä.py"])


# --- what a hostile server may say -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [b"-5", b"-512", b"+5", b" 5", b"1_0", b"", b"0x1", "٣".encode(), b"%d" % 8**11, b"9" * 400]
)
def test_a_size_that_no_file_has_is_refused(size) -> None:
    with pytest.raises(FormatError, match="an invalid line"):
        Manifest.parse(b"dagferry-manifest 1\n" + SHA.encode() + b" 0644 " + size + b" a.py\n")


def test_the_largest_size_that_a_tar_can_name_is_read() -> None:
    assert Manifest.parse(Manifest([A._replace(size=MOST_FILE_BYTES)]).text).size == MOST_FILE_BYTES


PATHS = [
    "a", "a/b.py", "with space", " a", "a ", "...", "..a/b", "a../.b", "ä/ö.py", "a\u2028b", "😀.py", "é" * 127,
    "n" * 255, "/".join(["d"] * 64), "/".join(["n" * 203] * 5), "a:b", "-", "~", "a\u00a0b",
    "", "/a", "//a", "a/", "a//b", ".", "..", "./a", "../a", "a/..", "a/../b", "a/./b",
    "a\\b", "a\0b", "a\tb", "a\nb", "a\rb",
    "a\x1b[2Jb", "a\x7fb", "a\x80b", "a\x9fb", "n" * 256, "é" * 128, "/".join(["d"] * 65),
    "/".join(["n" * 204] * 5) + "x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_a_path_is_read_if_and_only_if_an_upload_may_have_it(path) -> None:
    try:
        may = check_path(path.encode()) == path
    except PathRefused:
        may = False
    text = Manifest([A._replace(path=path)]).text
    if may and path:
        assert list(Manifest.parse(text).files) == [path]
    else:
        with pytest.raises(FormatError):
            Manifest.parse(text)


def test_a_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(FormatError):
        Manifest.parse(b"dagferry-manifest 1\n" + SHA.encode() + b" 0644 0 a\xff.py\n")


def test_more_bytes_than_any_server_lets_through_are_refused() -> None:
    share = MOST_EXPANDED_BYTES // 4
    entries = [A._replace(path=f"{number}.bin", size=share) for number in range(4)]
    assert Manifest.parse(Manifest(entries).text).size == MOST_EXPANDED_BYTES
    with pytest.raises(FormatError, match="no server accepts"):
        Manifest.parse(Manifest([*entries, A._replace(size=1)]).text)


def test_more_lines_than_any_server_lets_through_are_not_looked_at() -> None:
    with pytest.raises(FormatError, match=f"more than {MOST_FILES} files"):
        Manifest.parse(b"dagferry-manifest 1\n" + b"\n" * (MOST_FILES + 1))


def test_folders_count_too() -> None:
    deep = [A._replace(path=f"{number:x}/" + "/".join("abcdefgh" * 7) + "/f") for number in range(MOST_FILES // 57)]
    with pytest.raises(FormatError, match=f"more than {MOST_FILES} files and folders"):
        Manifest.parse(Manifest(deep).text)


def test_the_longest_text_holds_all_that_a_server_lets_through() -> None:
    line = Manifest([A._replace(size=MOST_FILE_BYTES)]).text.partition(b"\n")[2]
    assert MOST_FILES * (len(line) - len("a.py")) + MAX_PATHS_BYTES <= MAX_MANIFEST_BYTES


def test_what_two_manifests_have_in_common_is_held_once():
    old = Manifest([Entry("a.py", 1, 0o644, "0" * 64), Entry("b.py", 1, 0o644, "1" * 64)])
    new = Manifest(
        [Entry("a.py", 1, 0o644, "0" * 64), Entry("b.py", 2, 0o644, "2" * 64), Entry("c", 1, 0o644, "3" * 64)]
    )
    read = Manifest.parse(new.text, old)
    assert read.files == new.files
    assert read.digest == new.digest
    assert read.files["a.py"] is old.files["a.py"]
    assert read.files["b.py"].path is old.files["b.py"].path


def test_the_text_comes_in_pieces():
    manifest = Manifest(Entry(f"{number:05}", 1, 0o644, "0" * 64) for number in range(5000))
    pieces = list(manifest.pieces())
    assert b"".join(pieces) == manifest.text
    assert max(map(len, pieces)) < len(manifest.text) / 4


def test_a_text_that_is_known_is_not_read_again() -> None:
    known = Manifest([Entry("a.py", 1, 0o644, "0" * 64)])
    assert Manifest.parse(known.text, known) is known
    assert Manifest.parse(known.text) is not known
    other = Manifest([Entry("a.py", 2, 0o644, "0" * 64)])
    assert Manifest.parse(other.text, known).digest == other.digest
