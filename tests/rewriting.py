"""Rewrites a deploy log in a data folder, as somebody with access to the store could: its chain fits afterwards."""

import json
from pathlib import Path
from typing import Any

from dagferry_core.deploylog import decode, entry_sha256


def entry_file(data: Path, sequence: int, deployment: str = "default") -> Path:
    """The file of an entry in a data folder."""
    return data / deployment / "deploys" / f"{sequence:012d}.json"


def rewrite(data: Path, sequence: int, **fields: Any) -> None:
    """Change fields of an entry, and the chain of all entries after it."""
    while (path := entry_file(data, sequence)).exists():
        deploy = decode(path.read_bytes(), sequence)._replace(**fields)
        path.unlink()
        path.write_bytes(deploy.encode())
        fields = {"previous": entry_sha256(deploy.encode())}
        sequence += 1


def digest_of(data: Path, sequence: int) -> str:
    """The digest that an entry names."""
    return str(json.loads(entry_file(data, sequence).read_text())["digest"])
