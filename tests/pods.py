"""What tests ask a sidecar process, and how they make the fake server interrupt its downloads."""

import json
import os
import threading
from pathlib import Path

from harness import Sidecar, eventually, tree
from invariants import BESIDE_TREES

A = {"dag.py": b"import team.helper\n", "other.py": b"import os\n", "team/helper.py": b"rate = 1\n" * 200}
B = {**A, "team/helper.py": b"rate = 2\n" * 200}
C = {**B, "new.py": b"pass\n"}


def ended(sidecar: Sidecar) -> int:
    return sidecar.process.wait(30)


def lines(sidecar: Sidecar, message: str) -> list[dict[str, object]]:
    return [line for line in sidecar.logged() if line["message"] == message]


def outcome(sidecar: Sidecar, code: str) -> float:
    try:
        return sidecar.metric(f'dagferry_sidecar_syncs_total{{outcome="{code}"}}')
    except OSError:  # it does not listen yet
        return 0.0


def ready(sidecar: Sidecar) -> dict[str, object]:
    """What /readyz says, once it answers at all."""

    def ask() -> dict[str, object] | None:
        try:
            return json.loads(sidecar.probe("/readyz")[1])
        except OSError:
            return None

    return eventually("an answer of /readyz", ask)


def holds(root: Path, files: dict[str, bytes]) -> bool:
    """Whether this is what is live; it may change while it is read."""
    try:
        return tree(root / "current") == files
    except OSError:
        return False


def leftovers(root: Path) -> set[str]:
    """What is in the trees' folder and is neither live nor a tree that was, nor a file that is always there."""
    live = os.readlink(root / "current").split("/")[1] if (root / "current").is_symlink() else ""
    return {
        path.name
        for path in (root / ".trees").iterdir()
        if path.name not in {*BESIDE_TREES, live} and not (path / "ended").exists()
    }


def cut_at(fake, after: int):
    """Break off every bundle after so many bytes."""

    def intercept(kind: str, handler) -> bool:
        if kind == "current":
            return False
        content_type = "application/zstd" if kind == "whole" else "application/vnd.dagferry.patch"
        fake.cut(handler, fake.deploys[-1][1].body, after, content_type)
        return True

    return intercept


def promise_whole(fake, handler) -> bytes:
    """Send the headers of the newest bundle, and return the body that they promise."""
    body: bytes = fake.deploys[-1][1].body
    handler.send_response(200)
    handler.send_header("Content-Type", "application/zstd")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    return body


def stall(fake, over: threading.Event):
    """Send half of every whole bundle and then nothing."""

    def intercept(kind: str, handler) -> bool:
        if kind != "whole":
            return False
        body = promise_whole(fake, handler)
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        over.set()
        threading.Event().wait(30)
        return True

    return intercept
