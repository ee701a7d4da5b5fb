"""The patch between two bundles: small when the change is small, and never a tree that was not promised."""

import hashlib
import io
import os
import random

import pytest
import zstandard

from dagferry_core.bundle.manifest import EMPTY, Changes, Entry, Manifest
from dagferry_core.bundle.patch import (
    BATCH_BYTES,
    HEADER,
    MAX_FILE_BYTES,
    MAX_LINES,
    MAX_PATCH_BYTES,
    MAX_PATCH_FILES,
    Patch,
    make_patch,
    worth_a_patch,
)
from dagferry_core.bundle.reader import BundleFile, Index
from dagferry_core.bundle.writer import write_bundle
from dagferry_core.errors import FormatError
from dagferry_core.limits import MOST_EXPANDED_BYTES
from treemaker import range_read

RANDOM = random.Random(7)


def source(length: int) -> bytes:
    """Text that compresses about as Python does, and never twice the same."""
    lines = []
    while sum(map(len, lines)) < length:
        lines.append(f"    value_{RANDOM.randrange(1000)} = load(name={RANDOM.random()})\n")
    return "".join(lines).encode()


FILES = {f"team_{number % 7}/dag_{number}.py": source(3000) for number in range(60)}


@pytest.fixture
def stored():
    def make(files: dict[str, bytes], modes: dict[str, int] | None = None) -> BundleFile:
        manifest = Manifest(
            Entry(path, len(text), (modes or {}).get(path, 0o644), hashlib.sha256(text).hexdigest())
            for path, text in files.items()
        )
        out = io.BytesIO()
        frames = write_bundle(manifest, lambda entry: range_read(files[entry.path]), out)
        return BundleFile(range_read(out.getvalue()), Index(frames, {}))

    return make


def patched(old: BundleFile, body: bytes) -> dict[str, bytes]:
    """Build the new tree as a sidecar does, from the old tree and the patch alone."""
    patch = Patch.parse(body)
    manifest = patch.apply_to(old.manifest)
    by_content = {entry.sha256: path for path, entry in old.manifest.files.items()}
    tree = {path: old.read(path) for path in manifest.files if path in old.manifest.files}
    tree.update((entry.path, old.read(by_content[entry.sha256])) for entry in patch.copied)
    tree.update((entry.path, content) for entry, content in patch.contents(old.manifest, old.read))
    return tree


def whole(old: BundleFile, new: BundleFile, touch: tuple[str, ...] = ()) -> bytes:
    body = make_patch(old, new, touch, MAX_PATCH_BYTES)
    assert body is not None
    return body


def test_a_bare_patch_names_every_content_and_has_none(stored) -> None:
    old, new = (
        stored(FILES),
        stored({**FILES, "team_0/dag_0.py": b"changed\n" * 100, "new.bin": RANDOM.randbytes(50_000)}),
    )
    body = make_patch(old, new, ["team_1/dag_1.py"], MAX_PATCH_BYTES, bare=True)
    patch = Patch.parse(body)
    assert len(body) < 500
    assert [entry.path for entry in patch.copied] == ["new.bin", "team_0/dag_0.py"]
    assert (patch.written, patch.parts, patch.touch) == ([], [], ["team_1/dag_1.py"])
    assert patch.apply_to(old.manifest).digest == new.manifest.digest


def edited(path: str) -> bytes:
    return FILES[path].replace(b"load", b"read", 1)


CHANGES = {
    "one line": {**FILES, "team_0/dag_0.py": edited("team_0/dag_0.py")},
    "many files": {path: edited(path) for path in FILES},
    "added": {**FILES, "team_0/new.py": source(500), "deep/er/new.sql": b"select 1\n"},
    "removed": dict(list(FILES.items())[5:]),
    "emptied": {**FILES, "team_0/dag_0.py": b""},
    "renamed folder": {path.replace("team_0/", "crew/"): text for path, text in FILES.items()},
    "file became folder": {**dict(list(FILES.items())[1:]), "team_0/dag_0.py/x.py": b"pass\n"},
    "everything": {"only.py": source(9000)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_patch_leads_from_the_old_tree_to_the_new_one(stored, name: str) -> None:
    old, new = stored(FILES), stored(CHANGES[name])
    assert patched(old, whole(old, new)) == CHANGES[name]


@pytest.mark.parametrize("name", CHANGES)
def test_a_patch_gives_the_bare_one_to_the_same_bundle(stored, name: str) -> None:
    old, new = stored(FILES), stored(CHANGES[name])
    touch = ["team_1/dag_1.py"]
    assert Patch.parse(whole(old, new, touch)).bare() == make_patch(old, new, touch, MAX_PATCH_BYTES, bare=True)


def test_a_patch_from_nothing_carries_everything(stored) -> None:
    assert patched(stored({}), whole(stored({}), stored({"a.py": b"pass\n" * 99}))) == {"a.py": b"pass\n" * 99}


def test_one_changed_line_costs_its_own_bytes_and_not_the_file(stored) -> None:
    old, new = stored(FILES), stored(CHANGES["one line"])
    assert len(whole(old, new)) < 250


def test_a_moved_file_is_copied_and_not_sent(stored) -> None:
    old, new = stored(FILES), stored(CHANGES["renamed folder"])
    patch = Patch.parse(whole(old, new))
    assert len(patch.copied) == len([path for path in FILES if path.startswith("team_0/")])
    assert patch.written == []


def test_a_new_mode_is_a_change_without_content(stored) -> None:
    old, new = stored(FILES), stored(FILES, {"team_0/dag_0.py": 0o755})
    patch = Patch.parse(whole(old, new))
    assert [(entry.path, entry.mode) for entry in patch.copied] == [("team_0/dag_0.py", 0o755)]
    assert patch.apply_to(old.manifest).files["team_0/dag_0.py"].mode == 0o755


def test_the_files_to_touch_are_named(stored) -> None:
    old, new = stored(FILES), stored(CHANGES["one line"])
    assert Patch.parse(whole(old, new, ("team_1/dag_1.py",))).touch == ["team_1/dag_1.py"]


@pytest.mark.parametrize("size", [BATCH_BYTES - 1000, BATCH_BYTES])
def test_a_large_file_still_has_its_old_self_as_dictionary(stored, size: int) -> None:
    big = os.urandom(size)
    old, new = stored({"model.bin": big}), stored({"model.bin": big[:100] + b"changed" + big[100:]})
    assert len(whole(old, new)) < 1000


def test_files_beyond_one_batch_arrive_in_several(stored) -> None:
    files = {f"{number}.bin": os.urandom(BATCH_BYTES // 3) for number in range(5)}
    changed = {path: b"changed" + content for path, content in files.items()}
    old, new = stored(files), stored(changed)
    body = whole(old, new)
    assert len(Patch.parse(body).batches) > 1
    assert patched(old, body) == changed


def test_old_and_new_contents_of_a_batch_are_together_as_large_as_they_may_be_and_no_larger(stored) -> None:
    files = {f"{number}.bin": bytes([number]) * (BATCH_BYTES // 4) for number in range(5)}
    changed = {path: b"changed" + content[7:] for path, content in files.items()}
    batches = Patch.parse(whole(stored(files), stored(changed))).batches
    assert [len(batch) for batch in batches] == [2, 2, 1]


def test_a_patch_of_more_bytes_than_it_may_have_is_not_made(stored) -> None:
    old, new = stored({}), stored({"a.bin": os.urandom(5000)})
    assert make_patch(old, new, [], 4000) is None
    size = len(whole(old, new))
    assert make_patch(old, new, [], size - 1) is None
    assert make_patch(old, new, [], size) is not None


def test_a_patch_that_is_larger_than_the_bundle_is_not_made(stored) -> None:
    old = stored({f"{os.urandom(16).hex()}.py": b"" for _ in range(100)})
    assert make_patch(old, stored({"left.py": b"pass\n"}), [], MAX_PATCH_BYTES) is None


def test_a_changed_file_too_large_to_be_held_in_memory_costs_the_patch_and_one_that_only_moved_does_not(
    stored, monkeypatch
) -> None:
    monkeypatch.setattr("dagferry_core.bundle.patch.MAX_FILE_BYTES", 5000)
    fits, large = {"a.bin": os.urandom(5000)}, {"a.bin": os.urandom(5001)}
    assert make_patch(stored(FILES), stored({**FILES, **fits}), [], MAX_PATCH_BYTES) is not None
    assert make_patch(stored(FILES), stored({**FILES, **large}), [], MAX_PATCH_BYTES) is None
    moved = stored({**FILES, "b.bin": large["a.bin"]})
    assert Patch.parse(whole(stored({**FILES, **large}), moved)).written == []


def test_of_more_files_than_a_patch_may_have_none_is_worth_making() -> None:
    paths = ["a.py"] * (MAX_PATCH_FILES - 2)
    assert worth_a_patch(Changes(paths, ["b.py"], ["c.py"]))
    assert not worth_a_patch(Changes(paths, ["b.py"], ["c.py", "d.py"]))


def test_a_patch_whose_text_no_sidecar_would_read_is_not_made(stored, monkeypatch) -> None:
    old, new = stored(FILES), stored(CHANGES["many files"])
    text = 81 * len(FILES)
    monkeypatch.setattr("dagferry_core.bundle.patch.MAX_TEXT_BYTES", text)
    assert make_patch(old, new, [], MAX_PATCH_BYTES) is None
    monkeypatch.setattr("dagferry_core.bundle.patch.MAX_TEXT_BYTES", 2 * text)
    assert patched(old, whole(old, new)) == CHANGES["many files"]


def test_a_patch_for_another_tree_is_refused_before_anything_is_built(stored) -> None:
    old, new = stored(FILES), stored(CHANGES["one line"])
    body = whole(old, new)
    with pytest.raises(ValueError, match="leads to sha256:") as caught:
        Patch.parse(body).apply_to(EMPTY)
    assert not isinstance(caught.value, FormatError), "the patch itself is as it should be"


def test_old_content_that_is_not_what_the_server_had_gives_an_error_or_other_bytes_never_silence(stored) -> None:
    old, new = stored(FILES), stored(CHANGES["one line"])
    patch = Patch.parse(whole(old, new))
    damaged = FILES["team_0/dag_0.py"].replace(b"value", b"other")
    try:
        ((entry, content),) = patch.contents(old.manifest, lambda _: damaged)
    except ValueError:
        return
    assert hashlib.sha256(content).hexdigest() != entry.sha256


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 20, 60, -1])
def test_a_truncated_patch_is_refused(stored, cut: int) -> None:
    body = whole(stored(FILES), stored(CHANGES["many files"]))
    with pytest.raises(FormatError):
        Patch.parse(body[:cut])


def test_a_patch_that_claims_to_expand_to_more_than_it_may_is_refused(stored) -> None:
    frame = zstandard.compress(bytes(1 << 30))
    with pytest.raises(FormatError, match="claims to hold"):
        Patch.parse(len(frame).to_bytes(4, "big") + frame)


# --- what a hostile server may say -----------------------------------------------------------------------------------


def made_of(lines: list[str], *parts: bytes) -> bytes:
    frames = [zstandard.compress("\n".join(["dagferry-patch 1", "to " + "0" * 64, *lines]).encode()), *parts]
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def named(path: str, size: int, word: str = "file") -> str:
    return f"{word} {Entry(path, size, 0o644, '0' * 64).line()}"


CONTENT = zstandard.compress(b"")


@pytest.mark.parametrize(
    "lines",
    [
        ["batch 1", named("b.py", 2 << 30)],
        ["batch 1", named("b.py", MAX_FILE_BYTES + 1)],
        ["batch 2", named("a.py", BATCH_BYTES), named("b.py", 1)],
    ],
)
def test_a_batch_that_claims_more_than_may_be_held_is_refused_before_it_is_looked_at(lines) -> None:
    with pytest.raises(FormatError, match="claims more bytes than may be held in memory"):
        Patch.parse(made_of(lines, CONTENT))


def test_the_largest_batches_that_a_server_makes_are_read() -> None:
    lines = ["batch 1", named("a.py", MAX_FILE_BYTES), "batch 2", named("b.py", BATCH_BYTES - 1), named("c.py", 1)]
    assert len(Patch.parse(made_of(lines, CONTENT, CONTENT)).written) == 3


@pytest.mark.parametrize("path", ["../evil.py", "/evil.py", "a\x1b[2J.py", "a//b.py", "a\\b.py"])
@pytest.mark.parametrize("word", ["file", "copy"])
def test_a_path_that_no_upload_may_have_is_refused(word, path) -> None:
    with pytest.raises(FormatError, match="an invalid line"):
        Patch.parse(made_of(["batch 1", named(path, 0, word)], CONTENT))


@pytest.mark.parametrize("size", [-1, -5, 8**11])
def test_a_size_that_no_file_has_is_refused(size) -> None:
    with pytest.raises(FormatError, match="an invalid line"):
        Patch.parse(made_of(["batch 1", named("a.py", size)], CONTENT))


def test_copies_that_come_to_more_than_any_server_lets_through_are_refused_before_anything_is_built() -> None:
    size = 4 << 30
    old = Manifest([Entry("a.bin", size, 0o644, "1" * 64)])
    lines = [
        f"copy {Entry(f'{number}.bin', size, 0o644, '1' * 64).line()}" for number in range(MOST_EXPANDED_BYTES // size)
    ]
    with pytest.raises(FormatError, match="no server accepts"):
        Patch.parse(made_of(lines)).apply_to(old)


def test_a_text_of_more_lines_than_a_patch_can_have_is_refused() -> None:
    with pytest.raises(FormatError, match=f"more than {MAX_LINES} lines"):
        Patch.parse(made_of([""] * MAX_LINES))


def test_as_many_lines_as_a_patch_can_have_are_read(monkeypatch) -> None:
    monkeypatch.setattr("dagferry_core.bundle.patch.MAX_LINES", 5)
    assert Patch.parse(made_of(["touch a.py"] * 3)).touch == ["a.py"] * 3
    with pytest.raises(FormatError, match="more than 5 lines"):
        Patch.parse(made_of(["touch a.py"] * 4))


def test_a_patch_of_another_format_is_refused() -> None:
    frame = zstandard.compress(f"dagferry-patch 2\nto {'0' * 64}".encode())
    assert HEADER == "dagferry-patch 1"
    with pytest.raises(FormatError, match="it starts with 'dagferry-patch 2'"):
        Patch.parse(len(frame).to_bytes(4, "big") + frame)


def test_contents_that_no_batch_names_are_refused() -> None:
    with pytest.raises(FormatError, match="1 contents for 0 batches"):
        Patch.parse(made_of([], CONTENT))


def test_a_file_that_is_in_no_batch_is_refused() -> None:
    with pytest.raises(FormatError, match="not a patch"):
        Patch.parse(made_of([named("a.py", 0)]))


@pytest.mark.parametrize(
    ("content", "told"), [(b"four", "holds 4 bytes where its header says 5"), (b"longer", "claims to hold 6 bytes")]
)
def test_contents_of_another_size_than_was_said_do_not_fit(content: bytes, told: str) -> None:
    patch = Patch.parse(made_of(["batch 2", named("a.py", 2), named("b.py", 3)], zstandard.compress(content)))
    with pytest.raises(ValueError, match=told):
        list(patch.contents(EMPTY, lambda _: b""))


def test_more_batches_than_contents_are_refused_as_soon_as_they_are_read() -> None:
    with pytest.raises(FormatError, match="a line b'batch 1"):
        Patch.parse(made_of(["batch 1", "batch 1"], CONTENT))


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(FormatError, match="an empty part"):
        Patch.parse(made_of([]) + bytes(4))
