"""The server's metrics, in a registry of its own. The values of labels are configured deployments, routes,
error codes and fixed words: a request cannot make a new one.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from dagferry_core import __version__
from dagferry_core.deploylog import PROMOTE, ROLLBACK, UPLOAD
from dagferry_core.limits import UploadLimit
from dagferry_server.config.watched import Reload
from dagferry_server.deploys.checking import OUTCOMES
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.errors import GateRefused, GateUnavailable, ImportCheckRefused, RemovalsRefused
from dagferry_server.fleet.status import PodState, State
from dagferry_server.parsed_metrics import ParsedMetrics

PREFIX = "dagferry_server_"
DEPLOYMENT = "deployment"
OUTCOME_OK = "ok"
OUTCOME_UNCHANGED = "unchanged"
OUTCOME_DRY_RUN = "dry_run"
CLIENT_DISCONNECTED = "client_disconnected"
"""The outcome of an upload, and the status of a request, whose client disconnected before its answer, or in the middle
of it; a deploy that was logged before remains."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)


class Metrics:
    """The metrics. ``described`` has name, type, labels and meaning of each."""

    def __init__(self, upload_limit: UploadLimit) -> None:  # noqa: PLR0915 - one for each metric
        self.registry = CollectorRegistry()
        self.described: list[tuple[str, str, str, str]] = []
        self._counters: list[tuple[Counter | Gauge | Histogram, tuple[str, ...]]] = []
        ProcessCollector(registry=self.registry)

        def make(kind: type[_Kind], name: str, meaning: str, *labels: str, **more: Any) -> _Kind:
            self.described.append(
                (f"`{PREFIX}{name}`", kind.__name__.lower(), ", ".join(f"`{label}`" for label in labels), meaning)
            )
            metric = kind(PREFIX + name, meaning, labels, registry=self.registry, **more)
            if DEPLOYMENT in labels and kind is not Gauge:
                self._counters.append((metric, labels))
            return metric

        of = DEPLOYMENT
        self.uploads = make(
            Counter,
            "uploads_total",
            "Uploads by outcome: ok, unchanged, dry_run, client_disconnected, or an error's code. The deployment is "
            "empty if it does not exist or the caller may not know of it.",
            of,
            "outcome",
        )
        self.deploys = make(
            Counter,
            "deploys_total",
            "Uploads, rollbacks and promotes by kind and outcome; outcome and deployment as for uploads.",
            of,
            "kind",
            "outcome",
        )
        self.requests = make(
            Counter,
            "requests_total",
            "Requests by route and class of status: 2xx, 3xx, 4xx, 5xx, or client_disconnected. The route is empty if "
            "no endpoint has the path and method, as for OPTIONS, or if the request was not HTTP.",
            "route",
            "status",
        )
        self.received_bytes = make(
            Counter, "upload_received_bytes_total", "Bytes of files received, also of uploads that then fail.", of
        )
        self.receive_seconds = make(
            Histogram, "upload_receive_seconds", "Time to receive an upload.", of, buckets=_SECONDS
        )
        self.check_seconds = make(
            Histogram, "upload_check_seconds", "Time to check an upload, without queueing.", of, buckets=_SECONDS
        )
        self.commit_seconds = make(
            Histogram, "upload_commit_seconds", "Time to store a bundle and its deploy.", of, buckets=_SECONDS
        )
        self.webhooks = make(
            Counter,
            "webhooks_total",
            "Messages to webhooks: delivered, dropped, and failed attempts, which are repeated.",
            of,
            "outcome",
        )
        self.gate_seconds = make(
            Histogram,
            "gate_seconds",
            "Time to check the DAG files of a deploy, before its commit and without queueing.",
            of,
            buckets=_SECONDS,
        )
        self.refusals = make(
            Counter,
            "refusals_total",
            "Deploys that were not made because of their DAG files, by the code of the error: gate_refused, "
            "removals_refused, gate_unavailable, import_check_refused.",
            of,
            "outcome",
        )
        self.import_checks = make(
            Counter,
            "import_checks_total",
            "Import checks by outcome: passed, problems (new ones) and failed are verdicts of checkers; away and "
            "overtime are deploys that got none.",
            of,
            "outcome",
        )
        self.import_check_seconds = make(
            Histogram,
            "import_check_seconds",
            "Time from when a content was to be checked until a checker's verdict.",
            of,
            buckets=_SECONDS,
        )
        self.import_check_waiting = make(
            Gauge, "import_check_waiting", "Deploys that wait for a checker's verdict.", of
        )
        self.checkers = make(Gauge, "checkers", "Checkers that are connected to any server.", of)
        self.bundle_sent_bytes = make(Counter, "bundle_sent_bytes_total", "Bytes of complete bundles sent.", of)
        self.patch_sent_bytes = make(Counter, "patch_sent_bytes_total", "Bytes of patches sent.", of)
        self.waiting = make(Gauge, "waiting_sidecars", "Requests that are waiting for a change.", of)
        self.known = make(
            Gauge,
            "known_sidecars",
            "Sidecars that have sent this server a request and not deregistered; lost ones for 15 minutes.",
            of,
        )
        self.sidecars = make(
            Gauge,
            "sidecars",
            "Sidecars that any server knows, by state: live, behind, failing, lost or claims_unknown.",
            of,
            "state",
        )
        self.fleet_state = make(
            Gauge,
            "fleet_state",
            "1 for the state of the fleet, 0 for the others: EMPTY, UNKNOWN, DEPLOYING, HEALTHY or DEGRADED.",
            of,
            "state",
        )
        self.converge_seconds = make(
            Histogram,
            "converge_seconds",
            "Time from a deploy until every pod has it live; of deploys that were not superseded before.",
            of,
            buckets=_SECONDS,
        )
        self.parsed = ParsedMetrics(make, of, _SECONDS)
        self.sequence = make(Gauge, "current_sequence", "Sequence of the current deploy; 0: nothing deployed.", of)
        self.deploy_time = make(
            Gauge, "current_deploy_timestamp_seconds", "Time of the current deploy; 0: nothing deployed.", of
        )
        self.unreadable = make(Gauge, "unreadable_deploys", "Entries of the deploy log that cannot be read.", of)
        self.unknown = make(
            Gauge,
            "current_unknown",
            "1 while the newest deploy cannot be read, so that sidecars are not notified.",
            of,
        )
        self.frozen = make(Gauge, "deployment_frozen", "1 while the deployment is frozen: nothing can be deployed.", of)
        self.stored_bytes = make(Gauge, "stored_bytes", "Bytes of stored bundles.", of)
        self.stored_bundles = make(Gauge, "stored_bundles", "Stored bundles.", of)
        self.leased_versions = make(
            Gauge, "leased_versions", "Versions whose bundles stay because DAG runs need them, or new runs may.", of
        )
        self.store_limit = make(
            Gauge,
            "store_limit_bytes",
            "How many bytes all stored bundles may have: above that, only those of the newest deploys are kept.",
        )
        self.store_reachable = make(
            Gauge,
            "store_reachable",
            "1 while the object store answers and can be written, as far as this server knows; always 1 for a store on "
            "a local disk.",
        )
        self.store_failures = make(
            Counter, "store_failed_looks_total", "Looks for changes by other servers that the object store failed."
        )
        self.store_answer_time = make(
            Gauge,
            "store_last_answer_timestamp_seconds",
            "When a look for changes by other servers last succeeded; 0: there was none.",
        )
        self.volume_bytes = make(Gauge, "volume_bytes", "Size of the volume of --data-dir; NaN: it cannot be read.")
        self.volume_free_bytes = make(
            Gauge, "volume_free_bytes", "What is free on the volume of --data-dir; NaN: it cannot be read."
        )
        self.reload_successful = make(
            Gauge,
            "config_last_reload_successful",
            "1 if the last reload of the file succeeded, 0 if it failed and the previous content is still in effect. "
            "The file is tokens, issuers, issuer_keys (of all issuers together), proxy_secret, peer_secret, web_key, "
            "certificate or deployments.",
            "file",
        )
        self.reload_time = make(
            Gauge,
            "config_last_reload_success_timestamp_seconds",
            "When the content in effect was read; 0: no keys were fetched yet.",
            "file",
        )
        self.peers_known = make(Gauge, "peers_known", "Other servers that are asked for the pods that they know.")
        self.peers_answering = make(
            Gauge,
            "peers_answering",
            "How many of them answer; with fewer than peers_known, no fleet is HEALTHY.",
        )
        self.pokes = make(
            Counter,
            "pokes_total",
            "Requests between servers to look into the store at once: sent, failed, received or rejected.",
            "outcome",
        )
        self.token_expiry = make(
            Gauge,
            "token_expiry_timestamp_seconds",
            "When the next token expires whose name has no later one; 0: no token expires.",
        )
        self.certificate_expiry = make(
            Gauge,
            "certificate_expiry_timestamp_seconds",
            "When the certificate of --tls-cert or one of its chain expires; 0: there is none.",
        )
        make(
            Gauge,
            "upload_limit_bytes",
            "How many bytes an upload may have, unless --deployments-file sets another limit.",
        ).set(upload_limit.bytes)
        make(Gauge, "info", "Always 1; the label has the server's version.", "version").labels(__version__).set(1)

    def count_deploy(self, deployment: str, kind: str, outcome: str) -> None:
        """Count a request to deploy."""
        self.deploys.labels(deployment, kind, outcome).inc()
        if kind == UPLOAD:
            self.uploads.labels(deployment, outcome).inc()

    def start(self, deployment: str) -> None:
        """Show the counters of a deployment from the start, so that their first increase is seen."""
        for outcome in (OUTCOME_OK, OUTCOME_UNCHANGED):
            self.uploads.labels(deployment, outcome)
            for kind in (UPLOAD, ROLLBACK, PROMOTE):
                self.deploys.labels(deployment, kind, outcome)
        for check in OUTCOMES:
            self.import_checks.labels(deployment, check)
        for error in (GateRefused, RemovalsRefused, GateUnavailable, ImportCheckRefused):
            self.refusals.labels(deployment, error.code)
        self.parsed.start(deployment)
        for metric in (self.received_bytes, self.bundle_sent_bytes, self.patch_sent_bytes):
            metric.labels(deployment)

    def forget(self, deployment: str, *, counters: bool = False) -> None:
        """Stop showing the state of a deployment that was removed; with ``counters``, also how much it did.

        The counters of one that the configuration had stay; those of one that a request created would pile up.
        """
        if counters:
            for counter, names in self._counters:
                samples = [sample.labels for family in counter.collect() for sample in family.samples]
                found = {
                    tuple(labels[name] for name in names) for labels in samples if labels[DEPLOYMENT] == deployment
                }
                for values in found:
                    counter.remove(*values)
        for metric in (
            self.waiting,
            self.known,
            self.sequence,
            self.deploy_time,
            self.unreadable,
            self.unknown,
            self.frozen,
            self.import_check_waiting,
            self.checkers,
            self.stored_bytes,
            self.stored_bundles,
            self.leased_versions,
        ):
            with suppress(KeyError):  # never scraped
                metric.remove(deployment)
        for metric, states in ((self.sidecars, PodState), (self.fleet_state, State)):
            for state in states:
                with suppress(KeyError):
                    metric.remove(deployment, state.value)
        self.parsed.forget(deployment)

    def render(self, deployments: Iterable[Deployment], reloads: Mapping[str, Reload], now: float) -> bytes:
        """Return the text of a scrape; called in a thread, after the status of each fleet was asked for.

        ``now`` is in seconds since the epoch.
        """
        for deployment in deployments:
            current = deployment.current
            for metric, value in (
                (self.waiting, len(deployment.waiters)),
                (self.known, len(deployment.fleet.sidecars.known)),
                (self.sequence, current.sequence if current else 0),
                (self.deploy_time, current.time if current else 0),
                (self.unreadable, len(deployment.unreadable)),
                (self.unknown, int(deployment.fault is not None)),
                (self.frozen, int(deployment.freeze_at(now) is not None)),
                (self.leased_versions, len(deployment.leases.versions)),
                (self.import_check_waiting, deployment.checking.waiting),
                (self.checkers, deployment.checking.connected),
            ):
                metric.labels(deployment.name).set(value)
            if status := deployment.fleet.shown:
                counts = status.counts
                for pod_state in PodState:
                    self.sidecars.labels(deployment.name, pod_state.value).set(counts[pod_state])
                for state in State:
                    self.fleet_state.labels(deployment.name, state.value).set(status.state is state)
                self.parsed.show(deployment.name, status.parsed)
        for file, reload in reloads.items():
            self.reload_successful.labels(file).set(not reload.last_error)
            self.reload_time.labels(file).set(reload.succeeded_at)
        return generate_latest(self.registry)


def documented() -> list[tuple[str, str, str, str]]:
    """Return name, type, labels and meaning of every metric, for the docs."""
    return Metrics(UploadLimit(0, "", "")).described
