"""``dagferry diff`` shows which files differ between two versions, or between a folder and what is deployed."""

import hashlib
import subprocess
from typing import Any

import pytest

from dagferry_client.commands import diff
from dagferry_client.compare import MAX_COMPARED_BYTES
from dagferry_core.bundle.manifest import Entry, Manifest
from recorded_answers import logged

OLD, NEW = logged(41)["version"], logged(42)["version"]
DIFF = f"GET /prod/dags/diff?from={OLD}&to={NEW}"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def alone(path: str, content: bytes, mode: int = 0o644) -> dict[str, Any]:
    return {"path": path, "size": len(content), "mode": mode, "sha256": sha(content)}


def changed(path: str, old: bytes, new: bytes, mode: int = 0o644) -> dict[str, Any]:
    return {
        "path": path,
        "old_size": len(old),
        "size": len(new),
        "old_mode": 0o644,
        "mode": mode,
        "old_sha256": sha(old),
        "sha256": sha(new),
    }


def answer(server, **lists: Any) -> None:
    server.answer(DIFF, {"from": OLD, "to": NEW, "added": [], "changed": [], "removed": [], "cut": False, **lists})


def answer_file(server, version: str, path: str, content: bytes) -> None:
    server.answer(f"GET /prod/dags/versions/{version}/files/{path}", content)


def test_each_file_has_a_line_with_its_sizes_in_the_order_of_paths(at, server) -> None:
    answer(
        server,
        added=[alone("new.py", b"x" * 2048)],
        changed=[changed("etl.py", b"ab", b"abc"), changed("run.sh", b"a", b"a", 0o755)],
        removed=[alone("a/old\x1b.py", b"abc")],
    )
    done = at("diff", OLD, NEW)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"prod: {OLD} -> {NEW}",
        "D  a/old?.py  3 B",
        "M  etl.py  2 B -> 3 B",
        "A  new.py  2.0 KiB",
        "M  run.sh  mode 0644 -> 0755",
        "1 file added, 2 changed, 1 removed.",
    ]


def test_versions_with_the_same_files_have_no_difference(at, server) -> None:
    answer(server)
    assert at("diff", OLD, NEW).out.splitlines() == [f"prod: {OLD} -> {NEW}", "There is no difference."]


def test_without_b_it_is_the_current_version(at, server) -> None:
    server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [logged(42)], "next": 42})
    answer(server)
    assert at("diff", OLD, "--json").json["new"] == NEW


def test_json_has_both_sides_of_each_file(at, server) -> None:
    answer(server, changed=[changed("etl.py", b"a", b"b")], removed=[alone("old.py", b"abc")], cut=True)
    done = at("diff", OLD, NEW, "--json")
    state = {"size": 1, "mode": 420}
    assert done.json == {
        "deployment": "prod",
        "old": OLD,
        "new": NEW,
        "files": [
            {
                "path": "etl.py",
                "status": "changed",
                "old": {**state, "sha256": sha(b"a")},
                "new": {**state, "sha256": sha(b"b")},
                "diff": None,
                "omitted": None,
            },
            {
                "path": "old.py",
                "status": "removed",
                "old": {"size": 3, "mode": 420, "sha256": sha(b"abc")},
                "new": None,
                "diff": None,
                "omitted": None,
            },
        ],
        "cut": True,
    }
    assert "More files differ" in done.err


def test_content_is_a_diff_that_git_applies(at, server, tmp_path) -> None:
    removed, added, script = b"a = 1\n", b"no newline", b"#!\n"
    answer(
        server,
        added=[alone("b/new ü.py", added), alone("empty.py", b""), alone("x.sh", script, 0o755)],
        changed=[changed("etl.py", b"a\tb\r\n", b"a\tc\r\n"), changed("run.sh", script, script, 0o755)],
        removed=[alone("old.py", removed)],
    )
    answer_file(server, NEW, "b/new%20%C3%BC.py", added)
    answer_file(server, NEW, "empty.py", b"")
    answer_file(server, NEW, "x.sh", script)
    answer_file(server, OLD, "etl.py", b"a\tb\r\n")
    answer_file(server, NEW, "etl.py", b"a\tc\r\n")
    answer_file(server, OLD, "old.py", removed)
    patch = at("diff", OLD, NEW, "--content").out
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, content in {"etl.py": b"a\tb\r\n", "old.py": removed, "run.sh": script}.items():
        (tree / name).write_bytes(content)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=tree, input=patch.encode(), check=True)
    found = {
        str(path.relative_to(tree)): path for path in tree.rglob("*") if path.is_file() and ".git" not in path.parts
    }
    assert {name: path.read_bytes() for name, path in found.items()} == {
        "b/new ü.py": added,
        "empty.py": b"",
        "x.sh": script,
        "etl.py": b"a\tc\r\n",
        "run.sh": script,
    }
    assert all(found[name].stat().st_mode & 0o100 for name in ("x.sh", "run.sh"))


def test_what_is_binary_or_large_is_not_shown_and_a_large_file_not_even_asked_for(at, server) -> None:
    large = {**alone("large.csv", b""), "size": MAX_COMPARED_BYTES + 1}
    for arguments in ((), ("--json",)):
        answer(server, added=[alone("b.bin", b"\0"), large])
        answer_file(server, NEW, "b.bin", b"\0")
        done = at("diff", OLD, NEW, "--content", *arguments)
        if arguments:
            assert [(one["diff"], one["omitted"]) for one in done.json["files"]] == [(None, "binary"), (None, "large")]
        else:
            assert "Contents of b.bin differ (not text)\n" in done.out
            assert "Contents of large.csv differ (too large to compare)\n" in done.out


def test_of_very_many_files_only_the_first_are_compared(at, server, monkeypatch) -> None:
    monkeypatch.setattr(diff, "MAX_COMPARED_FILES", 1)
    answer(server, added=[alone("a.py", b"a\n"), alone("b.py", b"b\n")])
    answer_file(server, NEW, "a.py", b"a\n")
    files = at("diff", OLD, NEW, "--content", "--json").json["files"]
    assert [(one["diff"], one["omitted"]) for one in files] == [
        ("--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+a\n", None),
        (None, "many"),
    ]


def answer_list(server, version: str, files: dict[str, bytes]) -> None:
    listed = [alone(path, content) for path, content in files.items()]
    digest = Manifest(Entry(one["path"], one["size"], one["mode"], one["sha256"]) for one in listed).digest
    server.answer(f"GET /prod/dags/versions/{version}/files", {"version": version, "digest": digest, "files": listed})


@pytest.fixture
def folder(project, monkeypatch, tmp_path):
    """A dags folder in the project, with ``etl.py`` and what is never deployed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dags = project / "dags"
    (dags / "__pycache__").mkdir(parents=True)
    (dags / "__pycache__" / "etl.pyc").write_bytes(b"x")
    (dags / "etl.py").write_bytes(b"a = 2\n")
    return dags


def test_a_folder_is_compared_with_what_is_live(at, server, folder) -> None:
    for arguments in ((), ("--content",)):
        server.answer("GET /prod/dags/deploys?limit=1", {"deploys": [logged(42)], "next": 42})
        answer_list(server, NEW, {"etl.py": b"a = 1\n", "gone.py": b""})
        if arguments:
            answer_file(server, NEW, "etl.py", b"a = 1\n")
            answer_file(server, NEW, "gone.py", b"")
        lines = at("diff", "dags", *arguments).out.splitlines()
        if arguments:
            assert {"-a = 1", "+a = 2", "deleted file mode 100644"} <= set(lines)
        else:
            assert lines == [
                f"prod: {NEW} -> dags",
                "M  etl.py  6 B -> 6 B",
                "D  gone.py  0 B",
                "0 files added, 1 changed, 1 removed.",
            ]


def test_a_folder_may_be_either_side_of_a_version(at, server, folder) -> None:
    answer_list(server, OLD, {})
    assert at("diff", OLD, ".", "--json").json["files"][0]["status"] == "added"
    answer_list(server, OLD, {})
    assert at("diff", ".", OLD, "--json").json["files"][0]["status"] == "removed"


def test_a_list_of_files_that_is_not_that_of_its_digest_is_no_answer(at, server, folder) -> None:
    server.answer(f"GET /prod/dags/versions/{OLD}/files", {"version": OLD, "digest": "sha256:x", "files": []})
    done = at("diff", OLD, "dags")
    assert (done.code, done.out) == (5, "")
    assert "has the digest" in done.err


def test_two_folders_and_a_folder_that_is_not_there_are_mistakes(at, server, folder) -> None:
    assert at("diff", "dags", "dags").code == 2
    done = at("diff", "nowhere")
    assert done.code == 2
    assert "nowhere" in done.err
