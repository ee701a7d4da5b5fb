"""A folder is removed with all in it, and nothing outside it."""

import errno
import os

import pytest

from dagferry_follow.volume.removal import remove


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    (tree / "team" / "deep").mkdir(parents=True)
    for name in ("a.py", "team/b.py", "team/deep/c.py"):
        (tree / name).write_bytes(b"pass\n")
    return tree


def test_a_folder_goes_with_all_in_it(tree) -> None:
    remove(str(tree))
    assert not tree.exists()


def test_what_is_gone_already_is_no_error(tmp_path) -> None:
    remove(str(tmp_path / "gone"))


def test_no_link_is_followed(tree, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    (tree / "folder").symlink_to(outside)
    (tree / "file").symlink_to(outside / "mine")
    remove(str(tree))
    assert not tree.exists()
    assert (outside / "mine").read_text() == "mine"


def test_a_link_in_the_place_of_the_folder_is_refused(tree, tmp_path) -> None:
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(NotADirectoryError):
        remove(str(tmp_path / "link"))
    assert (tree / "a.py").exists()


def test_a_folder_that_was_made_read_only_is_removed_all_the_same(tree, monkeypatch) -> None:
    opened = []
    fchmod = os.fchmod
    monkeypatch.setattr(os, "fchmod", lambda fd, mode: opened.append(mode) or fchmod(fd, mode))
    (tree / "team").chmod(0o500)
    remove(str(tree))
    assert not tree.exists()
    assert opened == [0o755]


@pytest.mark.parametrize("call", ["unlink", "scandir", "rmdir"])
def test_what_is_refused_stays_and_the_rest_goes(tree, monkeypatch, call) -> None:
    refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    deep = os.stat(tree / "team" / "deep")
    real = getattr(os, call)

    def refuse(what, **kinds):
        at = os.fstat(what) if isinstance(what, int) else os.stat(what, **kinds)
        if os.path.samestat(at, deep) or what == "c.py":
            raise refusal
        return real(what, **kinds)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(PermissionError) as caught:
            remove(str(tree))
    assert caught.value is refusal
    left = {str(path.relative_to(tree)) for path in tree.rglob("*")}
    assert left == {"team", "team/deep", *(() if call == "rmdir" else ("team/deep/c.py",))}


def test_no_tree_is_too_deep(tree) -> None:
    """Deeper than Python's recursion, a path, or the descriptors of a process may be."""
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    before = os.listdir("/proc/self/fd")
    remove(str(tree))
    assert not tree.exists()
    assert len(os.listdir("/proc/self/fd")) <= len(before)  # what an earlier test left open may be closed meanwhile


def test_folders_that_may_not_be_read_are_removed_by_their_owner(tree) -> None:
    """As another user than root, for whom permissions mean nothing."""
    for mode, folder in ((0o000, "team/deep"), (0o500, "team")):
        (tree / folder).chmod(mode)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(tree.parent)
            if os.geteuid() == 0:
                for path in (".", "tree", "tree/team", "tree/team/deep"):
                    os.chown(path, 65534, 65534)
                os.setuid(65534)
            remove("tree")
            code = int(os.path.lexists("tree"))
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not tree.exists()


def test_a_folder_that_is_moved_meanwhile_ends_the_removal(tree, tmp_path, monkeypatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "deep").mkdir()
    real = os.unlink

    def move(name, **where):
        real(name, **where)
        if name == "c.py":
            (tree / "team" / "deep").rename(tmp_path / "other" / "moved")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", move)
        with pytest.raises(OSError, match="was moved"):
            remove(str(tree))
    assert (tmp_path / "other" / "deep").exists()


def test_a_folder_that_cannot_be_opened_is_made_readable_first(tree, monkeypatch) -> None:
    """The same with what root sees of it: nothing is refused to root."""
    (tree / "team" / "deep").chmod(0o000)
    real = os.open

    def refuse(name, flags, **where):
        if name == "deep" and not flags & os.O_PATH and not os.stat(name, **where).st_mode & 0o400:
            raise PermissionError
        return real(name, flags, **where)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        remove(str(tree))
    assert not tree.exists()
