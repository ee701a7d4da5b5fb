"""Reports about what Airflow has read, as a dag processor sends them."""

import json
from typing import Any

from running import Answer, Running

ID = "0123456789abcdef" * 2


def parsed(deploy: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a dag processor says that has read all of a deploy; ``deploy`` is an answer of the server about it."""
    return {
        "version": deploy["version"],
        "sequence": deploy["sequence"],
        "digest": deploy["digest"],
        "files": 2,
        "recorded": 2,
        "mixed": 0,
        "dags": 3,
        "complete_for": 0.0,
        "errors": [],
        "error_count": 0,
        "new_error_count": 0,
        "parse_seconds": {"total": 1.5, "longest": 1.0, "slowest": [{"path": "etl.py", "seconds": 1.0}]},
        "hindrances": [],
        "airflow": "3.3.2",
        "python": "3.11.7",
        "providers": {"apache-airflow-providers-standard": "1.9.0"},
        **more,
    }


def error(path: str, *, new: bool = True, **more: Any) -> dict[str, Any]:
    """An import error."""
    return {"path": path, "message": "ImportError: no", "trace": "Traceback\n  no\n", "new": new, **more}


def report(log_id: str, said: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The body of a report."""
    return {
        "instance": "dag-processor-0",
        "id": ID,
        "component": "dag-processor",
        "log_id": log_id,
        "leaving": False,
        "versions": [],
        "leases": None,
        "parsed": said,
        **more,
    }


async def send(server: Running, body: object, deployment: str = "default", **headers: str) -> Answer:
    """Send a report; ``body`` may be bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    return await server.call("POST", f"/{deployment}/dags/reports", data=data, headers=headers)


async def log_id(server: Running, deployment: str = "default") -> str:
    """The log id of a deployment."""
    return (await server.get(f"/{deployment}/dags/current")).json["log_id"]


async def parsed_of(server: Running, deployment: str = "default") -> Any:
    """What the status says of what Airflow has read."""
    return (await server.get(f"/{deployment}/dags/status")).json["parsed"]
