"""What holds of a server's data folder and of a sidecar's root at every moment, whatever happened to them."""

import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagferry_core.bundle.reader import decompressed, read_tar
from harness import Server, eventually, tree

BESIDE_TREES = {"lock", "sidecar", "parsed.json", "reads.json"}
"""The files that may be in the folder of trees."""


def check_server(server: Server) -> list[dict[str, Any]]:
    """Check a server that runs: its log has no gap, every bundle is whole. Return the log, newest first."""
    status, body = server.get("/default/dags/deploys?limit=200")
    assert status == 200, body
    log: list[dict[str, Any]] = json.loads(body)["deploys"]
    assert [deploy["sequence"] for deploy in log] == list(range(len(log), 0, -1))
    current = server.current()
    if log:  # an entry has more fields than what pods are told
        told = {name: value for name, value in current.items() if name not in {"log_id", "entry_sha256"}}
        assert told == {name: log[0][name] for name in told}
        assert {"version", "digest", "sequence"} <= {*told}
    else:
        assert current["sequence"] == 0
    for deploy in log:
        status, body = server.get(f"/default/dags/versions/{deploy['version']}")
        if status == 410:  # retention has taken it, which it never does with the current one
            assert deploy is not log[0]
            continue
        assert status == 200, body
        manifest, files = read_tar(decompressed(io.BytesIO(body).read))
        assert manifest.digest == deploy["digest"]
        for entry, content in files:
            assert hashlib.sha256(b"".join(content)).hexdigest() == entry.sha256
    return log


def server_leftovers(server: Server) -> set[str]:
    """What lies in the data folder of a running server and should not."""
    log = json.loads(server.get("/default/dags/deploys?limit=200")[1])["deploys"]
    expected = {".lock", "default/log.json", "default/commit.lock"}
    for deploy in log:
        stem = f"default/bundles/{deploy['digest'].removeprefix('sha256:')}"
        entry = f"default/deploys/{deploy['sequence']:012d}.json"
        nonce = json.loads((server.data / entry).read_text())["nonce"]
        expected |= {entry, entry.replace("json", f"{nonce}.details"), f"{stem}.tar.zst", f"{stem}.index"}
    return set(tree(server.data)) - expected


def no_server_leftovers(server: Server) -> None:
    eventually("the server to have swept and deleted", lambda: not server_leftovers(server), seconds=5)


def check_root(root: Path, published: Mapping[str, Mapping[str, bytes]]) -> str:
    """Check that ``current`` leads to a whole tree of one of these versions, or is not there; return the version."""
    link = root / "current"
    if not os.path.lexists(link):
        return ""
    version = os.path.basename(os.readlink(link))
    assert version in published, f"{version} is live"
    found = tree(link)
    assert found == published[version], f"{version} is live, but with {sorted(found)}"
    for parent, folders, names in os.walk(f"{link}/"):
        for name in folders:
            assert stat.S_IMODE(os.lstat(f"{parent}/{name}").st_mode) == 0o755, f"mode of {parent}/{name}"
        for name in names:
            assert stat.S_IMODE(os.lstat(f"{parent}/{name}").st_mode) in {0o644, 0o755}, f"mode of {parent}/{name}"
    return version


def check_no_root_leftovers(root: Path, old_trees: int) -> None:
    """Check that nothing lies in the root but ``current``, the live tree, and up to ``old_trees`` old ones."""
    live = os.readlink(root / "current").split("/")[1]
    assert set(os.listdir(root)) == {"current", ".trees"}
    trees = set(os.listdir(root / ".trees")) - BESIDE_TREES
    assert live in trees
    assert len(trees) <= 1 + old_trees, f"{len(trees) - 1} trees are left over"
    for unique in trees:
        version = json.loads((root / ".trees" / unique / "deploy.json").read_text())["version"]
        found = set(os.listdir(root / ".trees" / unique))
        marks = {"ended"} if unique != live else found & {"ended"}
        assert found == {"manifest.zst", "deploy.json", version} | marks, f"{unique} has {found}"


def check_log(log: Path) -> None:
    """Check that a process met no bug of its own."""
    text = log.read_text()
    assert "Traceback" not in text, text
    assert "defect" not in text, text
    assert "internal error" not in text, text
