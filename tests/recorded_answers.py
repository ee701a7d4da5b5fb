"""Answers of the server's endpoints as they are documented, for tests of clients that have no server."""

import json
from typing import Any

from dagferry_core.deploylog import decode
from dagferry_core.names import make_version

VERSION = "20261120T064501Z-000042"


def sidecar(instance: str, **changed: Any) -> dict[str, Any]:
    """One sidecar of a status; it is fine, but for what is changed."""
    return {
        "instance": instance,
        "id": "5f0c1e",
        "component": instance.partition("-")[0],
        "live": VERSION,
        "seen": 0,
        "lag_seconds": None,
        "error": None,
        "state": "live",
        "in_use": 0,
        **changed,
    }


STATUS: dict[str, Any] = {
    "deployment": "prod",
    "log_id": "2b1c",
    "state": "HEALTHY",
    "reason": "All 2 pods have the newest deploy.",
    "version": VERSION,
    "sequence": 42,
    "deployed_at": 0,
    "converge_seconds": 60,
    "disabled": None,
    "frozen": None,
    "expected": {"scheduler": 1, "worker": 1},
    "counts": {"known": 2, "live": 2, "behind": 0, "lost": 0, "failing": 0},
    "sidecars": [sidecar("scheduler-0"), sidecar("worker-0")],
    "servers": {"asked": 1, "answered": 1},
    "parsed": None,
    "leases": {"versions": {}, "holders": 0},
    "import_check": None,
}


def import_failure(path: str = "etl.py", **changed: Any) -> dict[str, Any]:
    """A DAG file that Airflow cannot import, since this version but for what is changed."""
    trace = f'Traceback (most recent call last):\n  File "/dags/current/{path}", line 3, in <module>\nNameError: rate\n'
    return {"path": path, "message": "NameError: rate", "trace": trace, "new": True, **changed}


def reporter(instance: str = "dag-processor-0", **changed: Any) -> dict[str, Any]:
    """One process of Airflow that reports what it parsed."""
    return {
        "instance": instance,
        "component": "dag-processor",
        "version": VERSION,
        "state": "parsed",
        "seen": 1795157110,
        **changed,
    }


def parsed(**changed: Any) -> dict[str, Any]:
    """What Airflow has parsed: all of ``VERSION``, without an error, but for what is changed."""
    return {
        "version": VERSION,
        "sequence": 42,
        "state": "parsed",
        "files": 120,
        "recorded": 120,
        "mixed": 0,
        "dags": 200,
        "error_count": 0,
        "new_error_count": 0,
        "errors": [],
        "parsed_at": 1795157105,
        "seconds": 4.1,
        "parse_seconds": {"total": 9.5, "longest": 1.5, "slowest": [{"path": "etl.py", "seconds": 1.5}]},
        "hindrances": [],
        "airflow": "3.3.2",
        "python": "3.11.7",
        "providers": {"apache-airflow-providers-standard": "1.9.0"},
        "reporters": [reporter()],
        **changed,
    }


def checker(**changed: Any) -> dict[str, Any]:
    """One checker, which is ready, but for what is changed."""
    return {
        "instance": "checker-0",
        "airflow": "3.3.2",
        "python": "3.11.7",
        "variables": "stub",
        "warming": False,
        "connected": True,
        "seen": 1795157110,
        **changed,
    }


def import_check(**changed: Any) -> dict[str, Any]:
    """The check of uploads in Airflow's image: one checker, which has nothing to do, but for what is changed."""
    return {
        "policy": "block",
        "away": "open",
        "checkers": [checker()],
        "checking": [],
        "refused": [],
        "mismatch": "",
        **changed,
    }


LISTED: dict[str, Any] = {
    "name": "prod",
    "state": "HEALTHY",
    "version": VERSION,
    "deployed_at": 0,
    "disabled": None,
    "frozen": None,
    "created_by": None,
    "scopes": ["deploy", "read"],
    "upload_limit_bytes": 15728640,
}
"""One deployment of the list of deployments."""


def logged(sequence: int = 42, **changed: Any) -> dict[str, Any]:
    """One entry of the deploy log; its time is that of ``VERSION``, a second later for each sequence."""
    time = 1795157101 + sequence - 42
    return {
        "sequence": sequence,
        "version": make_version(time, sequence),
        "digest": f"sha256:{sequence:064x}",
        "kind": "upload",
        "description": "",
        "actor": "token:ci",
        "time": time,
        "added": 0,
        "changed": 1,
        "removed": 0,
        "git": None,
        "under": "",
        "flags": [],
        "source": "",
        "format": 2,
        "nonce": f"{sequence:016x}",
        "previous": "",
        "details_sha256": "",
        **changed,
    }


def of_stored(stored: bytes) -> dict[str, Any]:
    """What the server says about an entry that is stored as these bytes."""
    entry = decode(stored, json.loads(stored)["sequence"])._asdict()
    details = entry.pop("details")
    return {**entry, "details_sha256": details, "flags": entry.get("flags") or []}


DETAILS: dict[str, Any] = {
    "warnings": [],
    "excluded_paths": [],
    "added_paths": [],
    "changed_paths": [],
    "removed_paths": [],
    "cut": False,
}
"""The details of a deploy that has nothing to say."""

DEPLOYED: dict[str, Any] = {
    "version": VERSION,
    "digest": f"sha256:{'ab' * 32}",
    "sequence": 42,
    "kind": "rollback",
    "under": "",
    "dry_run": False,
    "unchanged": False,
    "added": 1,
    "changed": 1,
    "removed": 1,
    "warnings": [],
    "excluded": 0,
    "excluded_paths": [],
    "added_paths": ["new.py"],
    "changed_paths": ["etl.py"],
    "removed_paths": ["old.py"],
    "cut": False,
}
"""The answer to a request to deploy."""


def deployed(digest: str, **changed: Any) -> dict[str, Any]:
    """The answer to an upload that became version 43 with this digest."""
    version = make_version(1795157102, 43)
    return {**DEPLOYED, "kind": "upload", "version": version, "sequence": 43, "digest": digest, **changed}
