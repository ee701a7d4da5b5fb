"""deploy/ci/delete-old-previews.sh: what has no branch is deleted, and nothing else, whatever the lists contain."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deployfiles import HOME, run, tool
from workflows import search_path, stand_in

SCRIPT = HOME / "deploy" / "ci" / "delete-old-previews.sh"
SHELLS = [("dash",), ("bash",), ("busybox", "sh")]
DAGFERRY = """
[ "$1 $2" = "deployments delete" ] && [ "$4" = --yes ] && [ "$#" -eq 4 ] || exit 2
printf '%s\\n' "$3" >> deleted
[ ! -e fail ] || { echo "The server does not answer." >&2; exit 5; }
"""


def name_of(branch: str) -> str:
    script = SCRIPT.with_name("preview-name.sh")
    return subprocess.run(["sh", script, "preview-", branch], capture_output=True, text=True, check=True).stdout.strip()


def delete(
    folder: Path, deployments: Sequence[str], branches: Sequence[str], shell: tuple[str, ...] = ("sh",)
) -> tuple[int, list[str], str]:
    """Run the script; return its exit code, what was deleted, and what it said on stderr."""
    (folder / "deployments").write_text("".join(f"{name}\n" for name in deployments))
    (folder / "branches").write_text("".join(f"{name}\n" for name in branches))
    path = search_path(stand_in(folder / "bin", "dagferry", DAGFERRY))
    done = subprocess.run(
        [*shell, SCRIPT, "preview-", "deployments", "branches"],
        cwd=folder,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    deleted = folder / "deleted"
    return done.returncode, deleted.read_text().split() if deleted.exists() else [], done.stderr


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_only_previews_without_a_branch_are_deleted(tmp_path, shell) -> None:
    if not shutil.which(shell[0]):
        pytest.skip(f"there is no {shell[0]}")
    branches = ["main", "feature/a", "$(touch stolen)", "ä b", "x*"]
    kept = [name_of(branch) for branch in branches]
    gone = [name_of("feature/gone"), name_of("日本語")]
    others = ["prod", "staging", "preview-12", "preview-", "previewer-x-0123456789ab", "x-preview-a-0123456789ab"]
    assert delete(tmp_path, [*others, *kept, *gone], branches, shell) == (0, gone, "")
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("branches", [[], ["", ""]], ids=["empty", "blank"])
def test_without_branches_nothing_is_deleted_and_it_is_an_error(tmp_path, branches) -> None:
    code, deleted, said = delete(tmp_path, [name_of("feature/a")], branches)
    assert (code, deleted) == (2, [])
    assert "Nothing was deleted." in said


def test_one_that_cannot_be_deleted_is_an_error_and_the_others_are_deleted(tmp_path) -> None:
    (tmp_path / "fail").touch()
    gone = [name_of("a"), name_of("b")]
    code, deleted, _ = delete(tmp_path, gone, ["main"])
    assert (code, deleted) == (1, gone)


def test_lists_without_an_end_of_line_are_read_to_their_end(tmp_path) -> None:
    stand_in(tmp_path / "bin", "dagferry", DAGFERRY)
    (tmp_path / "deployments").write_text(name_of("a") + "\n" + name_of("b"))
    (tmp_path / "branches").write_text("main\na")
    path = search_path(tmp_path / "bin")
    subprocess.run(["sh", SCRIPT, "preview-", "deployments", "branches"], cwd=tmp_path, env={"PATH": path}, check=True)
    assert (tmp_path / "deleted").read_text().split() == [name_of("b")]


def test_shellcheck_finds_nothing() -> None:
    run(*tool(["shellcheck"]), SCRIPT)
