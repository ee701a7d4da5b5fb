"""The metrics that server and sidecar export, with their labels, and which of them a query asks for."""

import re

import dagferry_server.metrics
import dagferry_sidecar.metrics

OF_THE_PROCESS = ("process_resident_memory_bytes", "process_cpu_seconds_total")
"""What prometheus_client adds, as far as it is used."""
TARGET = {"job", "instance"}
"""Labels that Prometheus adds."""


def _exported() -> dict[str, set[str]]:
    found: dict[str, set[str]] = dict.fromkeys(("up", *OF_THE_PROCESS), TARGET)
    for name, kind, labels, _ in [*dagferry_server.metrics.documented(), *dagferry_sidecar.metrics.documented()]:
        known = set(labels.replace("`", "").split(", ")) - {""} | TARGET
        bare = name.strip("`")
        if kind in {"histogram", "summary"}:
            found |= {f"{bare}_sum": known, f"{bare}_count": known}
        if kind == "histogram":
            found[f"{bare}_bucket"] = known | {"le"}
        if kind not in {"histogram", "summary"}:
            found[bare] = known
    return found


METRICS = _exported()
"""The labels of each series, by its name."""


def metrics_in(query: str) -> list[tuple[str, dict[str, str]]]:
    """Return the series that a query of Prometheus asks for, each with the labels and values that it must have."""
    found = re.findall(r"\b(up|dagferry_\w+|process_\w+)\b(?:\{([^}]*(?:\{[^}]*\}[^}]*)*)\})?", query)
    return [(name, dict(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', labels))) for name, labels in found]
