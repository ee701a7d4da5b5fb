"""The programs of a real cluster, built from Go modules whose hashes are in the ``go.sum`` of each.

    python tests/cluster/programs.py helm        # builds Helm if it is not there, and prints its path

Each program is kept in a folder of ``DAGFERRY_CLUSTER_CACHE`` (default: ``.cluster-cache`` in the clone) that is named
after its version and after all that it is built from, so it is built once, and again when any of that changes. Go's own
cache of compiled packages (gigabytes for Kubernetes) lies beside it and goes when the build ends, unless ``GOCACHE``
says where to keep it.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "programs"
CACHE = Path(os.environ.get("DAGFERRY_CLUSTER_CACHE") or HERE.parent.parent / ".cluster-cache").absolute()
_KUBERNETES_VERSION = tuple(
    f"{package}.{variable}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for variable in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
)


class NotBuilt(Exception):
    """A program is not in the cache."""


@dataclass(frozen=True)
class Program:
    """What a program is built from, and what it does by which name.

    ``package`` is in the Go module in the folder ``module`` of ``programs/``. Its version is that of the module
    ``version_of`` there, and the variables are set to it, or to its first two numbers.
    """

    module: str
    package: str
    version_of: str
    names: tuple[str, ...]
    variables: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version, such as ``v1.34.4``."""
        [version] = re.findall(
            rf"^(?:require )?\s*{re.escape(self.version_of)} (v\S+)$",
            (SOURCES / self.module / "go.mod").read_text(),
            re.MULTILINE,
        )
        return str(version)

    @property
    def folder(self) -> Path:
        """Where it is when it is built, with a link for each of its names."""
        digest = hashlib.sha256(repr(self).encode())
        module = SOURCES / self.module
        own = sorted((module / self.package).glob("*.go")) if self.package.startswith("./") else []
        for path in (module / "go.mod", module / "go.sum", *own):
            digest.update(f"{path.name}\0".encode() + path.read_bytes())
        return CACHE / f"{self.names[0]}-{self.version}-{digest.hexdigest()[:12]}"


CONTROL = ("kube-apiserver", "etcd", "kubectl")
NODE = ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")
ADDONS = ("dns", "kube-network-policies")
PROGRAMS = (
    Program(
        "helm",
        "helm.sh/helm/v3/cmd/helm",
        "helm.sh/helm/v3",
        ("helm",),
        ("helm.sh/helm/v3/internal/version.version={version}",),
    ),
    Program("kubernetes", "./control", "k8s.io/kubernetes", CONTROL, _KUBERNETES_VERSION),
    Program("kubernetes", "./node", "k8s.io/kubernetes", NODE, _KUBERNETES_VERSION),
    Program("addons", "./dns", "github.com/coredns/coredns", ("dns",)),
    Program(
        "addons",
        "sigs.k8s.io/kube-network-policies/cmd",
        "sigs.k8s.io/kube-network-policies",
        ("kube-network-policies",),
    ),
)
"""Each by the first of its names; what is one program is linked once."""


@functools.cache
def _program(name: str) -> Program:
    for program in PROGRAMS:
        if name in program.names:
            return program
    raise NotBuilt(f"there is no program {name}: there are {', '.join(n for p in PROGRAMS for n in p.names)}")


def version(name: str) -> str:
    """The version of a program, such as ``v1.34.4``."""
    return _program(name).version


def find(name: str) -> Path:
    """The path of a program; raise ``NotBuilt`` with the command that builds it if it is not in the cache."""
    path = _program(name).folder / name
    if not path.exists():
        raise NotBuilt(f"{name} is not built: run python tests/cluster/programs.py {name}")
    return path


def build(names: Sequence[str]) -> list[Path]:
    """Build what is not in the cache of these, and return their paths; raise ``NotBuilt`` without Go."""
    missing = {program.names[0]: program for program in map(_program, names) if not program.folder.exists()}
    if missing and not shutil.which("go"):
        raise NotBuilt(
            "there is no Go here to build with: install it (https://go.dev/doc/install), and put it into PATH"
        )
    if missing:
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="building-") as scratch:
            for program in missing.values():
                _build(program, Path(scratch))
    return [find(name) for name in names]


def _build(program: Program, scratch: Path) -> None:
    started = time.monotonic()
    major, minor, _ = program.version.removeprefix("v").split(".", 2)
    flags = ["-s", "-w"]
    for variable in program.variables:
        flags += ["-X", variable.format(version=program.version, major=major, minor=minor)]
    made = scratch / program.names[0]
    made.mkdir()
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(flags)]
    subprocess.run(
        [*command, "-o", made / program.names[0], program.package],
        cwd=SOURCES / program.module,
        env={"GOCACHE": str(scratch / "go"), **os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
        check=True,
    )
    for name in program.names[1:]:
        (made / name).symlink_to(program.names[0])
    size = (made / program.names[0]).stat().st_size
    made.rename(program.folder)
    took = time.monotonic() - started
    sys.stderr.write(f"built {', '.join(program.names)} {program.version}: {took:.0f} s, {size / 1e6:.0f} MB\n")


def main(names: Sequence[str]) -> str | None:
    """Build the programs of these names and print their paths; return what went wrong."""
    if not names:
        return f"which of: {' '.join(name for program in PROGRAMS for name in program.names)}"
    try:
        sys.stdout.write("".join(f"{path}\n" for path in build(names)))
    except NotBuilt as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return f"the build failed with {error.returncode}: see above"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
