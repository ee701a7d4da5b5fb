"""Answers of the server's endpoints as they are documented, for tests of clients that have no server."""

from typing import Any

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
