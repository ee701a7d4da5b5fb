"""A checker as a process beside a real server, and uploads that it checks."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import PATIENCE_SECONDS, Server, pack


class Checker:
    """``command`` with the flags of a checker that follows ``server``, in a folder of its own; ``words`` are more."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], server: Server, folder: Path, *words: str
    ) -> None:
        folder.mkdir()
        self.log = folder / "log"
        flags = ["--server", server.url, "--work-dir", str(folder / "work"), *words]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, *flags], stdout=log, stderr=log, env=environment)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def checked(self) -> list[dict[str, Any]]:
        """The lines of the log about checks."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["message"].endswith("was checked")]


def is_connected(server: Server) -> bool:
    """Whether a checker is connected that has checked what is live."""
    check = json.loads(server.get("/default/dags/status")[1])["import_check"]
    return any(checker["connected"] and not checker["warming"] for checker in check["checkers"])


def upload(server: Server, files: Mapping[str, bytes]) -> tuple[int, Any]:
    """Deploy, and return the status and the answer."""
    status, body = server.request("/default/dags/upload", pack(files))
    return status, json.loads(body)
