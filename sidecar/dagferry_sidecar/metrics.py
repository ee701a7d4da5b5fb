"""The one table of the sidecar's metrics, and their values for a scrape.

``prometheus_client`` is imported at the first scrape: it costs more than a cold start.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from dagferry_sidecar.stats import Stats

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

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
)


def documented() -> list[tuple[str, str, str, str]]:
    """Return name, kind, labels and help of every metric, for the docs."""
    return [(f"`{metric.name}`", metric.kind, ", ".join(metric.labels), metric.help) for metric in METRICS]


_Samples = Iterable[tuple[tuple[str, ...], float]]


class _Collector:
    def __init__(self, library: ModuleType, stats: Stats, *, published: bool) -> None:
        self._library = library
        self._stats = stats
        self._published = published

    def collect(self) -> Iterator["Family"]:
        stats, live = self._stats, self._stats.live
        yield self._family(SYNCS, [((outcome,), count) for outcome, count in stats.syncs.items()])
        duration = self._library.SummaryMetricFamily(SYNC_DURATION.name, SYNC_DURATION.help)
        duration.add_metric((), stats.sync_count, stats.sync_seconds)
        yield duration
        yield self._family(DOWNLOAD, [((kind,), count) for kind, count in stats.download_bytes.items()])
        yield self._family(HOOKS, [(labels, count) for labels, count in list(stats.hooks.items())])
        yield self._family(LAST_CONTACT, [((), stats.last_contact)])
        yield self._family(PUBLISHED, [((), self._published)])
        yield self._family(LIVE_SEQUENCE, [((), live.sequence if live else 0)])
        yield self._family(LIVE_INFO, [((live.version, live.digest), 1)] if live else [])
        yield self._family(TREES, [((), stats.trees)])
        yield self._family(TREE_BYTES, [((), stats.tree_bytes)])

    def _family(self, metric: Metric, samples: _Samples) -> "Family":
        kinds = {"counter": self._library.CounterMetricFamily, "gauge": self._library.GaugeMetricFamily}
        family: Family = kinds[metric.kind](metric.name, metric.help, labels=metric.labels)
        for labels, value in samples:
            family.add_metric(labels, value)  # type: ignore[attr-defined]
        return family


def render(stats: Stats, *, published: bool) -> tuple[str, bytes]:
    """Return the content type and the text of a scrape."""
    import prometheus_client.core  # noqa: PLC0415 - see above

    registry = prometheus_client.CollectorRegistry()
    registry.register(_Collector(prometheus_client.core, stats, published=published))
    return prometheus_client.CONTENT_TYPE_LATEST, prometheus_client.generate_latest(registry)
