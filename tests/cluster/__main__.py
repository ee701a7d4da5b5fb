"""Bring up a real cluster and take it down, or build what tests in one need: the ``make`` targets of those names."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from cluster import images, programs
from cluster.outside import Cluster, down, obstacle

FOLDER = Path(__file__).parent.parent.parent / ".cluster"
ALL = (*programs.CONTROL, *programs.NODE, *programs.ADDONS, "helm")


def build() -> str | None:
    """Build the programs that are missing; return why there can be no cluster all the same."""
    try:
        programs.build(ALL)
    except programs.NotBuilt as reason:
        return str(reason)
    return obstacle()


def up() -> str | None:
    """Build what is missing, bring the cluster up, and say how to use it; return what went wrong."""
    if FOLDER.exists():
        return "there is a cluster already, or what is left of one: make cluster-down"
    if reason := build():
        return reason
    started = time.monotonic()
    archives = images.build()
    built = time.monotonic()
    cluster = Cluster(FOLDER, archives, detached=True)
    ready = time.monotonic()
    tools = sorted({programs.find(name).parent for name in ("kubectl", "helm")})
    sys.stdout.write(
        f"images: {built - started:.0f} s, cluster: {ready - built:.0f} s. It is ready:\n\n"
        f"    export KUBECONFIG={cluster.kubeconfig}\n"
        f"    export PATH={':'.join(map(str, tools))}:$PATH\n"
        "    kubectl get pods --all-namespaces\n\n"
        "It has these images, and reaches no registry (imagePullPolicy: IfNotPresent):\n\n"
        + "".join(f"    {image}\n" for image in images.IMAGES)
        + f"\nLogs: {FOLDER}/log. End it with: make cluster-down\n"
    )
    return None


def end() -> str | None:
    """Take the cluster down."""
    if not FOLDER.exists():
        return "there is no cluster"
    down(FOLDER)
    return None


def airflow() -> str | None:
    """Build the images of Airflow, for the tests that run it."""
    if reason := obstacle():
        return reason
    images.build(*images.MORE)
    return None


COMMANDS: dict[str, Callable[[], str | None]] = {"build": build, "up": up, "down": end, "airflow": airflow}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]]())
