"""Definitions of custom resources, from the modules of those who define them: what a server-side dry run holds our
``ServiceMonitor``, ``PodMonitor``, ``PrometheusRule`` and ``HTTPRoute`` against.

    PYTHONPATH=tests python -m cluster.crds        # fetches them if they are not there, and prints their paths

They are kept in the cache of ``programs``, and pinned by hash in ``programs/crds/go.sum``.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster.programs import CACHE, SOURCES, NotBuilt

MODULE = SOURCES / "crds"
FILES = {
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "sigs.k8s.io/gateway-api": (
        "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
}
"""Which files of which module."""


def folder() -> Path:
    """Where they are when they are fetched."""
    pinned = hashlib.sha256(repr(FILES).encode() + (MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes())
    return CACHE / f"crds-{pinned.hexdigest()[:12]}"


def find() -> list[Path]:
    """The files; raise ``NotBuilt`` with the command that fetches them if they are not in the cache."""
    if not folder().exists():
        raise NotBuilt("the definitions of custom resources are not here: run PYTHONPATH=tests python -m cluster.crds")
    return sorted(folder().iterdir())


def fetch() -> list[Path]:
    """Fetch what is not in the cache, and return the files. Needs Go."""
    if not folder().exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as scratch:
            made = Path(scratch, "crds")
            made.mkdir()
            for module, files in FILES.items():
                for name in files:
                    shutil.copy(_downloaded(module) / name, made)
            made.rename(folder())
    return find()


def _downloaded(module: str) -> Path:
    """The folder of a module at its pinned version, with the pinned content."""
    [version] = re.findall(rf"^\t{re.escape(module)} (v\S+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    found = json.loads(subprocess.run(command, cwd=MODULE, check=True, stdout=subprocess.PIPE).stdout)
    assert f"{module} {version} {found['Sum']}\n" in (MODULE / "go.sum").read_text(), f"{module} has another hash"
    return Path(found["Dir"])


if __name__ == "__main__":
    if not shutil.which("go"):
        sys.exit("there is no Go here to fetch modules with: install it (https://go.dev/doc/install)")
    sys.stdout.write("".join(f"{path}\n" for path in fetch()))
