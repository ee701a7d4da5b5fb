"""deploy/ci/preview-name.sh: a valid name for every branch, and one of its own; the branch is data."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dagferry_core.names import is_deployment
from deployfiles import HOME, run, tool

SCRIPT = HOME / "deploy" / "ci" / "preview-name.sh"
SHELLS = [("dash",), ("bash",), ("busybox", "sh")]
BRANCHES = [
    "main",
    "feature/load-orders",
    "feature-load-orders",
    "feature/Load-Orders",
    "feature/load_orders",
    "feature/load-orders-",
    "-n",
    "--help",
    "-",
    "a" * 200,
    "a" * 201,
    "ä",
    "ö",
    "日本語",
    "$(touch stolen)",
    "`touch stolen`",
    "'; touch stolen; '",
    '"; touch stolen; "',
    "a\nb",
    "a b",
    "a*",
    "\\n",
    "%s%n",
    "${HOME}",
    "x" * 42 + "/" + "y",
]


def name_of(prefix: str, branch: str, folder: Path, shell: tuple[str, ...] = ("sh",)) -> str:
    done = subprocess.run(
        [*shell, SCRIPT, prefix, branch], cwd=folder, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr == ""
    [name] = done.stdout.splitlines()
    return name


def test_each_branch_has_a_valid_name_of_its_own_and_none_is_run(tmp_path) -> None:
    names = [name_of("preview-", branch, tmp_path) for branch in BRANCHES]
    assert all(is_deployment(name) and name.startswith("preview-") for name in names)
    assert len(set(names)) == len(BRANCHES)
    assert list(tmp_path.iterdir()) == []


def test_the_name_can_be_read_and_stays_the_same(tmp_path) -> None:
    name = name_of("preview-", "feature/Load_orders", tmp_path)
    assert name == "preview-feature-load-orders-54a7ce1fa243"
    assert f"#   {name}\n" in SCRIPT.read_text()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_shell_gives_the_same_names(tmp_path, shell) -> None:
    if not shutil.which(shell[0]):
        pytest.skip(f"there is no {shell[0]}")
    for branch in BRANCHES:
        assert name_of("preview-", branch, tmp_path, shell) == name_of("preview-", branch, tmp_path), branch


def test_the_longest_prefix_leaves_room_for_the_hash(tmp_path) -> None:
    prefix = "p" * 29 + "-"
    first, second = (name_of(prefix, "b" * 300 + end, tmp_path) for end in ("1", "2"))
    assert is_deployment(first)
    assert is_deployment(second)
    assert first != second


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("preview-",),
        ("preview-", ""),
        ("preview-", "a", "b"),
        *((prefix, "a") for prefix in ("preview", "Preview-", "-", "-a-", "p*-", "", "p\n-", "p" * 30 + "-")),
    ],
    ids=str,
)
def test_anything_else_is_an_error_without_a_name(arguments) -> None:
    done = subprocess.run(["sh", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("preview-name.sh: ")


def test_shellcheck_finds_nothing() -> None:
    run(*tool(["shellcheck"]), SCRIPT)
