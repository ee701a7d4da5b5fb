"""From an upload to every pod: how long it takes, what a pod receives and what it writes."""

import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import tree
from measure import (
    RUNS,
    WORK,
    Change,
    Row,
    Written,
    folder_and_changes,
    following,
    logged,
    ms,
    packed,
    row_per_tree,
    serving,
    size,
    size_of,
    upload,
    wait_live,
)
from wire import Relay

SIDECARS = 50
FLEET_RUNS = 5
REST_SECONDS = 0.3
"""Between two deploys, so that a sidecar waits for the next one."""
FLEET_REST_SECONDS = 2


def _times(change: Change, shape: tree.Shape, what: str, goals: tuple[str, str]) -> list[Row]:
    folder, changed = folder_and_changes(change, shape)
    to_live, whole = [], []
    with serving("one") as server:
        version, *_ = upload(server, packed(folder))
        with following(server.url, WORK / "pod", version) as sidecar:
            for number in range(RUNS):
                body = changed(number)
                time.sleep(REST_SECONDS)
                version, began, answered = upload(server, body)
                wait_live([sidecar], version)
                live = time.perf_counter()
                to_live.append(live - answered)
                whole.append(live - began)
    return [
        (f"200 received → live in a sidecar, {what}", goals[0], ms(to_live)),
        (f"upload begun → live, {what}", goals[1], ms(whole)),
    ]


def _amounts(change: Change, shape: tree.Shape, what: str, goals: tuple[str, str, str]) -> list[Row]:
    """Through a relay that counts, and on a disk, because the kernel does not count what is written to memory."""
    folder, changed = folder_and_changes(change, shape)
    received, sent, written = [], [], []
    with (
        serving("one") as server,
        closing(Relay(server.port)) as relay,
        tempfile.TemporaryDirectory(dir="/var/tmp") as disk,
    ):
        version, *_ = upload(server, packed(folder))
        with following(relay.url, Path(disk, "pod"), version) as sidecar:
            for number in range(RUNS):
                body = changed(50 + number)
                time.sleep(REST_SECONDS)
                before = relay.down, relay.up, Written.by(sidecar)
                version, *_ = upload(server, body)
                wait_live([sidecar], version)
                time.sleep(REST_SECONDS)  # in which it asks for the next one
                received.append(relay.down - before[0])
                sent.append(relay.up - before[1])
                after = Written.by(sidecar)
                written.append(Written(after.passed - before[2].passed, after.to_disk - before[2].to_disk))
    return [
        (f"bytes a sidecar receives, with headers, {what}", goals[0], size(received)),
        (f"bytes it sends, with headers, {what}", "report", size(sent)),
        (f"bytes it passes to write(2), {what}", goals[1], size([each.passed for each in written])),
        (f"bytes that the kernel writes to disk for it, {what}", goals[2], size([each.to_disk for each in written])),
    ]


@row_per_tree
def leaf(shape: tree.Shape) -> list[Row]:
    """One changed line in a leaf DAG."""
    what = f"one line in a leaf DAG, {size_of(shape)}"
    return [
        *_times(tree.change_leaf, shape, what, ("≤ 60 ms", "≤ 1 s")),
        *_amounts(tree.change_leaf, shape, what, ("report", "≤ 200 kB", "report")),
    ]


@row_per_tree
def helper(shape: tree.Shape) -> list[Row]:
    """One changed line in a helper that many DAGs import."""
    what = f"one line in a helper of {shape.helper_importers} DAGs, {size_of(shape)}"
    return [
        *_times(tree.change_helper, shape, what, ("report", "report")),
        *_amounts(tree.change_helper, shape, what, ("report", "report", "report")),
    ]


@row_per_tree
def fleet(shape: tree.Shape) -> list[Row]:
    """Fifty sidecars on this machine, and one changed line."""
    folder, changed = folder_and_changes(tree.change_leaf, shape)
    (WORK / "fleet-pods").mkdir(exist_ok=True)
    notified, live = [], []
    with serving("fleet") as server, ExitStack() as pods:
        version, *_ = upload(server, packed(folder))
        sidecars = [
            pods.enter_context(following(server.url, WORK / "fleet-pods" / f"pod-{number}", version))
            for number in range(SIDECARS)
        ]
        for number in range(FLEET_RUNS):
            body = changed(100 + number)
            time.sleep(FLEET_REST_SECONDS)
            version, _, answered = upload(server, body)
            wait_live(sidecars, version)
            live.append(time.perf_counter() - answered)
            time.sleep(REST_SECONDS)
            for sidecar in sidecars:
                logged(sidecar, "Tree published", version)
            last = max(logged(sidecar, "New deploy available", version) for sidecar in sidecars)
            notified.append(last - logged(server, "Deployed", version))
    return [
        (f"committed → the last of {SIDECARS} sidecars is notified, {size_of(shape)}", "≤ 50 ms", ms(notified)),
        (f"200 received → live in {SIDECARS} sidecars, {size_of(shape)}", "≤ 1.5 s", ms(live)),
    ]
