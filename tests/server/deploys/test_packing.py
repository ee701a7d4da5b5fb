"""A packed bundle; what a client gets of it is in ``test_download``."""

import io
import tarfile
import tempfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagferry_core.archive.check import ArchiveRules, CheckedArchive, check_archive
from dagferry_core.archive.errors import RatioTooHigh
from dagferry_core.bundle.manifest import Changes, Entry
from dagferry_core.deploylog import Deploy, next_deploy
from dagferry_core.limits import MAX_RATIO, MIB
from dagferry_server.deploys.bundles import put_bundle
from dagferry_server.deploys.contents import Head, UploadedContent
from dagferry_server.deploys.packing import _header, packed
from dagferry_server.store.local import LocalStore
from tarmaker import file, gz, symlink, tar

RULES = ArchiveRules(allow_empty=True)
HEAD = Head("prod", None, is_newest=True, highest=0, sha256="")


def test_entries_are_tar_members() -> None:
    header = _header(Entry("a.py", 3, 0o755, "0" * 64), 7)
    member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (member.name, member.size, member.mode, member.mtime) == ("dags/a.py", 3, 0o755, 7)


def checked(archive: bytes, store: LocalStore | None = None, root: str | None = None) -> CheckedArchive:
    """What the server makes of an upload; it is put into ``store``."""
    with tempfile.TemporaryFile() as spool:
        found = check_archive(io.BytesIO(archive), spool, RULES, root=root)
        if store:
            with UploadedContent(found, spool).tree(HEAD) as tree:
                put_bundle(store, "prod", tree)
    return found


def deploy(digest: str) -> Deploy:
    nothing = Changes([], [], [])
    return next_deploy(
        None, 0, digest=digest, kind="upload", description="", actor="", now=1e9, changes=nothing, nonce="0" * 16
    )


def downloaded(store: LocalStore, digest: str) -> bytes:
    return b"".join(packed(store, "prod", deploy(digest)))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> LocalStore:
    store = LocalStore(str(tmp_path_factory.mktemp("data")))
    store.prepare("prod")
    return store


NAMES = st.one_of(
    st.sampled_from(["dags", "a", "b.py", ".airflowignore", "é", "e\N{COMBINING ACUTE ACCENT}", "n" * 255, "ß" * 127]),
    st.sampled_from(
        [".env", "x.pyo", "git", ".gitignore", "..a", "...", "-rf", " ", "pax", "././@PaxHeader", "~", "%2F"]
    ),
    st.text(min_size=1, max_size=12),
)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=5).map("/".join),
    st.tuples(st.binary(max_size=2000), st.booleans()),
    max_size=8,
)


def fits(paths: dict[str, tuple[bytes, bool]]) -> bool:
    """Whether an upload with these files is valid at all."""
    try:
        checked(archive(paths), root=".")
    except Exception:  # noqa: BLE001 - which of its errors does not matter here
        return False
    return True


def archive(files: dict[str, tuple[bytes, bool]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as opened:
        for path, (content, runs) in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755 if runs else 0o600
            opened.addfile(member, io.BytesIO(content))
    return out.getvalue()


@given(FILES.filter(fits))
@example({"dags": (b"a file named like the folder", False)})
@example({"dags/dags/a.py": (b"", True), "b.py": (b"", False)})
@example({"dags/a.py": (b"", False)})
@example({})
@settings(max_examples=150)
def test_what_is_downloaded_can_be_uploaded_and_is_the_same(store, files) -> None:
    first = checked(archive(files), store, root=".")
    again = checked(downloaded(store, first.manifest.digest))
    assert again.manifest.digest == first.manifest.digest
    assert (again.excluded, again.excluded_files) == ([], 0)


def test_what_links_added_is_uploaded_like_any_other_file(store) -> None:
    first = checked(
        tar(file(b"dags/real/a.py", b"a"), symlink(b"dags/linked", b"real"), symlink(b"dags/x.py", b"real/a.py")), store
    )
    again = checked(downloaded(store, first.manifest.digest))
    assert set(again.manifest.files) == {"real/a.py", "linked/a.py", "x.py"}
    assert again.manifest.digest == first.manifest.digest


def test_the_longest_and_deepest_paths_are_uploaded_again(store) -> None:
    deepest, longest = "/".join("d" * 64), "/".join(["n" * 255] * 4)
    first = checked(archive({deepest: (b"1", False), longest: (b"2", True)}), store, root=".")
    assert checked(downloaded(store, first.manifest.digest)).manifest.digest == first.manifest.digest


def test_a_bundle_that_compresses_very_well_is_not_taken_for_a_bomb(store) -> None:
    size = 70 * MIB
    zeros = bytes(size)
    # Plain, so that it is accepted: its size is what it expands to.
    first = checked(tar(file(b"dags/zeros", zeros), file(b"dags/a.py", b"a = 1\n")), store)
    with pytest.raises(RatioTooHigh):
        checked(gz(tar(file(b"dags/zeros", zeros))))
    body = downloaded(store, first.manifest.digest)
    assert checked(body).manifest.digest == first.manifest.digest
    assert len(body) < size // MAX_RATIO + 2 * MIB
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as opened:
        assert [(member.name, member.size) for member in opened] == [("dags/a.py", 6), ("dags/zeros", size)]


def test_pieces_are_small_however_large_the_bundle_is(store) -> None:
    first = checked(tar(file(b"dags/zeros", bytes(70 * MIB))), store)
    assert max(map(len, packed(store, "prod", deploy(first.manifest.digest)))) < MIB


def test_what_exclude_rules_of_today_match_is_left_out_and_said(store) -> None:
    old = checked(archive({"a.py": (b"", False), "notes.md": (b"", False)}), store)
    body = downloaded(store, old.manifest.digest)
    with tempfile.TemporaryFile() as spool:
        again = check_archive(io.BytesIO(body), spool, ArchiveRules(exclude=("*.md",)))
    assert (list(again.manifest.files), again.excluded) == (["a.py"], ["dags/notes.md"])
