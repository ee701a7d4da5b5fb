"""The images of a cluster that reaches no registry: a base of Debian's packages, the project's own, and what they need.

Debian's Python replaces the base that the Dockerfiles name, which lies in a registry. Everything is kept in the
cache of ``programs``: the base, buildah's layers, and each image as an archive that is named after its content.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.programs import CACHE, SOURCES, find
from dagferry_core import __version__

HOME = Path(__file__).parent.parent.parent
PACKAGES = ("ca-certificates", "python3", "python3-venv")
SUITES = {"trixie": PACKAGES, "bookworm": (*PACKAGES, "dumb-init", "postgresql")}
"""The base of our images, and that of Airflow: its major version 2 does not know the Python of ``trixie``."""
MAKE_PYTHON = ("python3", "-m", "venv", "/usr/local")
"""As in the base that the Dockerfiles name, pip is in /usr/local: it could not replace a package of Debian's."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
SERVER, SIDECAR = (f"docker.io/library/dagferry-{name}:{__version__}" for name in ("server", "sidecar"))
PAUSE, ADDONS = "localhost/pause:1", "localhost/addons:1"
AIRFLOW = "docker.io/apache/airflow:3.3.2"
"""A stand-in for Airflow's image: its user, Python, and two files in its DAG folder."""
IMAGE_DAG = "# of the image"
"""What is in them."""
REAL_AIRFLOWS = {version: f"docker.io/library/real-airflow-{version[0]}:{version}" for version in ("3.3.2", "2.11.2")}
"""Airflow itself, with PostgreSQL beside it; built and taken into a cluster only by the tests that need it."""
WITH_PLUGIN = "docker.io/library/airflow-dagferry:3.3.2"
"""The same of Airflow 3 with our plugin, by the Dockerfile of deploy/airflow."""
MAX_LAYERS = 100
"""Of earlier builds too, so that what has not changed is not built again; beyond that all unused ones go."""
_FOLDER = CACHE / "images"
_STORAGE = _FOLDER / "storage"
_RUN = ""
"""Where buildah keeps what it has mounted: each run has a folder of its own."""


def _buildah(*arguments: str | Path) -> str:
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
    command = ["buildah", "--root", _STORAGE, "--runroot", _RUN, *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"buildah {arguments[0]} failed: {done.stderr[-5000:]}")
    return done.stdout.strip()


def _name(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[0]


@functools.cache
def _base(suite: str) -> str:
    """The name of a base; it is built once, again when its packages change."""
    packages = SUITES[suite]
    key = hashlib.sha256(" ".join([suite, *packages, *MAKE_PYTHON]).encode()).hexdigest()[:12]
    image = f"localhost/base:{key}"
    if image in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        return image
    with tempfile.TemporaryDirectory(dir=_FOLDER, prefix="base-") as scratch:
        root = Path(scratch, "root")
        included = f"--include={','.join(packages)}"
        subprocess.run(["debootstrap", "--variant=minbase", included, suite, root], check=True, stdout=sys.stderr)
        subprocess.run(["chroot", root, *MAKE_PYTHON], check=True, stdout=sys.stderr)
        for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / unneeded)
        # Behind a proxy that opens TLS, pip needs what this machine trusts.
        shutil.copyfile(AUTHORITIES, root / AUTHORITIES.relative_to("/"))
        container = _buildah("from", "scratch")
        _buildah("add", "--quiet", container, root, "/")
        _buildah("config", "--env", f"PIP_CERT={AUTHORITIES}", "--cmd", "python3", container)
        _buildah("commit", "--quiet", "--rm", container, image)
    return image


def _made(image: str, dockerfile: Path, context: Path, *, suite: str = "trixie", **arguments: str) -> None:
    """Build an image, from buildah's layers where nothing has changed."""
    given = [f"--build-arg={name}={value}" for name, value in {"BASE": _base(suite), **arguments}.items()]
    _buildah(
        "build", "--quiet", "--layers", "--pull-never", *given, "--file", dockerfile, "--tag", image, context,
    )  # fmt: skip


def _small(image: str, *lines: str) -> None:
    """Build an image of a few lines; what they copy is in the folders of our programs."""
    dockerfile = _FOLDER / f"{_name(image)}.dockerfile"
    dockerfile.write_text("\n".join(["ARG BASE", *lines]))
    _made(image, dockerfile, CACHE)


def _addons() -> None:
    copied = [f"COPY {find(name).relative_to(CACHE)} /" for name in ("dns", "kube-network-policies")]
    _small(ADDONS, "FROM scratch", *copied)


def _airflow() -> None:
    write = " && ".join(f"printf '{IMAGE_DAG}' > /opt/airflow/dags/{name}.py" for name in "ab")
    _small(AIRFLOW, "FROM ${BASE}", f"RUN mkdir -p /opt/airflow/dags && {write}", "USER 50000:0")


def _real_airflow(version: str) -> None:
    dockerfile = Path(__file__).with_name("airflow.dockerfile")
    _made(REAL_AIRFLOWS[version], dockerfile, SOURCES, suite="bookworm", AIRFLOW=version)


def _with_plugin() -> None:
    version = WITH_PLUGIN.rpartition(":")[2]
    _real_airflow(version)
    _made(WITH_PLUGIN, HOME / "deploy" / "airflow" / "Dockerfile", HOME, AIRFLOW=REAL_AIRFLOWS[version])


IMAGES: dict[str, Callable[[], None]] = {
    PAUSE: lambda: _small(PAUSE, "FROM ${BASE}", "USER 65535:65535", 'ENTRYPOINT ["sleep", "infinity"]'),
    ADDONS: _addons,
    AIRFLOW: _airflow,
    SERVER: lambda: _made(SERVER, HOME / "Dockerfile.server", HOME),
    SIDECAR: lambda: _made(SIDECAR, HOME / "Dockerfile.sidecar", HOME),
}
"""What every cluster has from its start."""
MORE: dict[str, Callable[[], None]] = {
    image: functools.partial(_real_airflow, version) for version, image in REAL_AIRFLOWS.items()
} | {WITH_PLUGIN: _with_plugin}
"""What some tests take into a cluster."""


def is_built(image: str) -> bool:
    """Whether this image was built at some time; ``build`` brings it up to date."""
    return any(_FOLDER.glob(f"{_name(image)}-*.tar"))


def build(*names: str) -> list[Path]:
    """Build these images, all of ``IMAGES`` by default, and return their archives.

    Needs root, buildah, debootstrap and a network. What buildah mounts is seen by its own processes only, and gone when
    they end.
    """
    command = ["unshare", "--mount", sys.executable, "-m", "cluster.images", *(names or IMAGES)]
    environment = {**os.environ, "PYTHONPATH": str(HOME / "tests")}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [Path(line) for line in done.stdout.splitlines()]


def _build_here(names: Sequence[str]) -> None:
    """Build images, and print the paths of their archives."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may have the same cache
        _buildah("rm", "--all")  # what a failed build has left
        for image in names:
            started = time.monotonic()
            (IMAGES | MORE)[image]()
            identity = _buildah("images", "--no-trunc", "--format", "{{.ID}}", image).removeprefix("sha256:")
            name = _name(image)
            archive = _FOLDER / f"{name}-{identity[:12]}.tar"
            if not archive.exists():
                for old in _FOLDER.glob(f"{name}-*.tar"):
                    old.unlink()
                _buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}")
            took = time.monotonic() - started
            sys.stderr.write(f"image {image}: {took:.1f} s, {archive.stat().st_size / 1e6:.0f} MB\n")
            sys.stdout.write(f"{archive}\n")
        if len(_buildah("images", "--all", "--quiet").splitlines()) > MAX_LAYERS:
            _buildah("rmi", "--prune")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as _RUN:
        _build_here(sys.argv[1:])
