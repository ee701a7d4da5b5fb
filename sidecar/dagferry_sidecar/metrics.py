"""The one table of the sidecar's metrics, and their values for a scrape, in Prometheus' text format 0.0.4.

Not by ``prometheus_client``, which would take 4 MB of each pod's memory for these few lines (docs/adr/0026). Source:
https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dagferry_sidecar.stats import Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "dagferry_sidecar_"


class Metric(NamedTuple):
    """A metric: its name, kind (``counter``, ``gauge``, ``summary``), labels and help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


SYNCS = Metric(
    PREFIX + "syncs_total",
    "counter",
    ("outcome",),
    "Deploys that were published (ok), and failed polls and syncs, by the error's code.",
)
SYNC_DURATION = Metric(
    PREFIX + "sync_duration_seconds",
    "summary",
    (),
    "From the server's answer that there is a deploy to its tree being live.",
)
DOWNLOAD = Metric(
    PREFIX + "download_bytes_total", "counter", ("kind",), "Bytes of bodies received: complete bundles and patches."
)
HOOKS = Metric(
    PREFIX + "hooks_total", "counter", ("hook", "outcome"), "Runs of the hooks after a swap: ok, or the error's code."
)
LAST_CONTACT = Metric(
    PREFIX + "last_contact_timestamp_seconds", "gauge", (), "Time of the server's last valid answer; 0: never."
)
PUBLISHED = Metric(
    PREFIX + "published", "gauge", (), "1 if current points at a complete tree, as /readyz reports it; else 0."
)
LIVE_SEQUENCE = Metric(
    PREFIX + "live_sequence", "gauge", (), "Sequence of the live deploy; 0: a seed, an empty tree or nothing."
)
LIVE_INFO = Metric(PREFIX + "live_info", "gauge", ("version", "digest"), "The live deploy; always 1.")
TREES = Metric(
    PREFIX + "trees",
    "gauge",
    (),
    "Trees on the volume, with the live one and the remains of those that could not be removed.",
)
TREE_BYTES = Metric(
    PREFIX + "trees_bytes",
    "gauge",
    (),
    "Their disk usage, in blocks of 4096 bytes; a shared file counts once, the remains do not count.",
)
USED_TREES = Metric(PREFIX + "trees_in_use", "gauge", (), "Old trees that tasks still use, whatever their age.")

METRICS: tuple[Metric, ...] = (
    SYNCS,
    SYNC_DURATION,
    DOWNLOAD,
    HOOKS,
    LAST_CONTACT,
    PUBLISHED,
    LIVE_SEQUENCE,
    LIVE_INFO,
    TREES,
    TREE_BYTES,
    USED_TREES,
)


def documented() -> list[tuple[str, str, str, str]]:
    """Return name, kind, labels and help of every metric, for the docs."""
    return [(f"`{metric.name}`", metric.kind, ", ".join(metric.labels), metric.help) for metric in METRICS]


_Samples = Iterable[tuple[tuple[str, ...], float]]


def render(stats: Stats, *, published: bool) -> tuple[str, bytes]:
    """Return the content type and the text of a scrape."""
    live = stats.live
    lines = [
        *_family(SYNCS, [((outcome,), count) for outcome, count in stats.syncs.items()]),
        *_head(SYNC_DURATION),
        f"{SYNC_DURATION.name}_count {float(stats.sync_count)!r}",
        f"{SYNC_DURATION.name}_sum {stats.sync_seconds!r}",
        *_family(DOWNLOAD, [((kind,), count) for kind, count in stats.download_bytes.items()]),
        *_family(HOOKS, list(stats.hooks.items())),
        *_family(LAST_CONTACT, [((), stats.last_contact)]),
        *_family(PUBLISHED, [((), int(published))]),
        *_family(LIVE_SEQUENCE, [((), live.sequence if live else 0)]),
        *_family(LIVE_INFO, [((live.version, live.digest), 1)] if live else []),
        *_family(TREES, [((), stats.trees)]),
        *_family(TREE_BYTES, [((), stats.tree_bytes)]),
        *_family(USED_TREES, [((), stats.used_trees)]),
    ]
    return CONTENT_TYPE, "".join(line + "\n" for line in lines).encode()


def _family(metric: Metric, samples: _Samples) -> list[str]:
    return [*_head(metric), *(f"{metric.name}{_labels(metric, labels)} {float(value)!r}" for labels, value in samples)]


def _head(metric: Metric) -> list[str]:
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    return [f"# HELP {metric.name} {text}", f"# TYPE {metric.name} {metric.kind}"]


def _labels(metric: Metric, values: Sequence[str]) -> str:
    if not metric.labels:
        return ""
    escaped = (value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(metric.labels, escaped, strict=True)) + "}"
