"""A packed bundle; what a client gets of it is in ``test_download``."""

import tarfile

from dagferry_core.bundle.manifest import Entry
from dagferry_server.deploys.packing import _header


def test_entries_are_tar_members() -> None:
    header = _header(Entry("a.py", 3, 0o755, "0" * 64), 7)
    member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (member.name, member.size, member.mode, member.mtime) == ("dags/a.py", 3, 0o755, 7)
