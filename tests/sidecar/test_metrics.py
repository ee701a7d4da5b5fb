"""The sidecar's metrics: names and kinds as documented, values as counted, and nothing imported before a scrape."""

import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import SyncError
from dagferry_sidecar.metrics import LIVE_INFO, METRICS, PREFIX, documented, render
from dagferry_sidecar.stats import OUTCOMES, Stats
from errortable import ALL_ERRORS


def scraped(stats: Stats, *, published: bool = True) -> dict[str, float]:
    text = render(stats, published=published)[1].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {"/".join([sample.name, *sorted(sample.labels.values())]): sample.value for sample in samples}


def test_every_metric_of_the_table_is_scraped_with_its_kind_and_help() -> None:
    stats = Stats()
    stats.live = DeployRef("log", 3, "v-3", "sha256:3")
    stats.count_hook("command", "ok")
    families = list(text_string_to_metric_families(render(stats, published=True)[1].decode()))
    found = {(family.name, family.type, family.documentation) for family in families}
    assert found == {(metric.name.removesuffix("_total"), metric.kind, metric.help) for metric in METRICS}
    labels = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    for metric in METRICS:
        assert labels.get(metric.name, set()) == set(metric.labels) or metric.kind == "summary"


def test_names_follow_the_rules_of_prometheus() -> None:
    for metric in METRICS:
        assert metric.name.startswith(PREFIX)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert len(documented()) == len(METRICS)


def test_values_are_what_was_counted() -> None:
    stats = Stats()
    stats.syncs["ok"] += 2
    stats.syncs["digest_mismatch"] += 1
    stats.download_bytes["patch"] += 67
    stats.sync_count, stats.sync_seconds = 2, 0.5
    stats.last_contact = 1.5e9
    stats.live = DeployRef("log", 42, "v-42", "sha256:42")
    stats.trees, stats.tree_bytes, stats.used_trees = 3, 1000, 2
    found = scraped(stats)
    assert found["dagferry_sidecar_syncs_total/ok"] == 2
    assert found["dagferry_sidecar_syncs_total/digest_mismatch"] == 1
    assert found["dagferry_sidecar_syncs_total/volume_failed"] == 0, "a rate needs the zero before the first failure"
    assert found["dagferry_sidecar_download_bytes_total/patch"] == 67
    assert found["dagferry_sidecar_sync_duration_seconds_sum"] == 0.5
    assert found["dagferry_sidecar_sync_duration_seconds_count"] == 2
    assert found["dagferry_sidecar_last_contact_timestamp_seconds"] == 1.5e9
    assert found["dagferry_sidecar_live_sequence"] == 42
    assert found["dagferry_sidecar_live_info/sha256:42/v-42"] == 1
    assert (found["dagferry_sidecar_trees"], found["dagferry_sidecar_trees_bytes"]) == (3, 1000)
    assert found["dagferry_sidecar_trees_in_use"] == 2
    assert found["dagferry_sidecar_published"] == 1
    assert scraped(stats, published=False)["dagferry_sidecar_published"] == 0


def test_the_outcomes_are_ok_and_the_codes_of_the_table_of_errors() -> None:
    codes = {error.code for error in ALL_ERRORS if issubclass(error, SyncError)}
    assert set(OUTCOMES) == {"ok", "internal", *codes}


def test_labels_are_escaped_so_that_prometheus_reads_what_was_meant() -> None:
    stats = Stats()
    awkward = 'a "quoted\\" line\nand another'
    stats.live = DeployRef("log", 42, awkward, "sha256:42")
    text = render(stats, published=True)[1].decode()
    [info] = [family for family in text_string_to_metric_families(text) if family.name == LIVE_INFO.name]
    assert info.samples[0].labels == {"version": awkward, "digest": "sha256:42"}
    assert text.endswith("\n")


def test_a_scrape_imports_no_library() -> None:
    program = (
        "import sys; from dagferry_sidecar.metrics import render; from dagferry_sidecar.stats import Stats;"
        "render(Stats(), published=True); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"prometheus_client", "http.server"} & set(loaded)
