"""A whole cluster of one node in namespaces of its own, brought up and taken down from outside."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster import programs
from cluster.api import Api
from cluster.control import BOUND_TO_STARTER, START_SECONDS
from cluster.node import NODE, make_authority, volumes, write_files
from cluster.pki import write_signing_key
from harness import eventually

HERE = Path(__file__).parent
CGROUPS = Path("/sys/fs/cgroup")
READY_SECONDS = 180
DOWN_SECONDS = 30
TOOLS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "iptables": "iptables",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
"""The programs of Debian that a cluster needs, and the packages that have them."""


def obstacle() -> str | None:
    """Why a cluster cannot run on this machine; ``None`` if nothing is known."""
    if os.geteuid() != 0:
        return "a cluster needs root, for its namespaces"
    if missing := sorted({package for program, package in TOOLS.items() if not shutil.which(program)}):
        return f"a cluster needs these packages: {' '.join(missing)}"
    try:
        for name in (*programs.CONTROL, *programs.NODE, *programs.ADDONS):
            programs.find(name)
    except programs.NotBuilt as reason:
        return str(reason)
    return None


class Cluster(Api):
    """A cluster with all that it keeps in ``folder``, which must not exist.

    It ends with this process, unless it is ``detached``: then ``down`` ends it from anywhere.
    """

    def __init__(self, folder: Path, archives: Sequence[Path], *, detached: bool = False) -> None:
        folder.mkdir(parents=True)
        listening = socket.create_server(("127.0.0.1", 0))
        super().__init__(folder, f"https://127.0.0.1:{listening.getsockname()[1]}", make_authority(folder))
        cgroup = f"dagferry-{os.getpid()}-{time.monotonic_ns():x}"
        (folder / "cgroup").write_text(cgroup)
        write_files(folder, cgroup)
        (folder / "images").mkdir()
        for archive in archives:
            (folder / "images" / archive.name).symlink_to(archive)
        _sweep()
        _make_cgroups(cgroup)
        bound = () if detached else BOUND_TO_STARTER
        namespaces = (
            "unshare",
            "--fork",
            "--kill-child",
            "--pid",
            "--mount-proc",
            "--net",
            "--mount",
            "--uts",
            "--ipc",
        )
        inside = (sys.executable, "-m", "cluster.inside", str(folder), str(listening.fileno()))
        with (folder / "log" / "inside.log").open("ab") as log, listening:
            self.process = subprocess.Popen(
                [*bound, *namespaces, *inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                start_new_session=detached,
                env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            )
        (folder / "process").write_text(str(self.process.pid))
        try:
            self._wait_until_ready()
        except BaseException:
            down(folder)
            raise

    def take(self, archive: Path) -> None:
        """Take an image into the running cluster."""
        self._containerd("import", str(archive))

    def tag(self, image: str, name: str) -> None:
        """Give an image that the cluster has another name too."""
        self._containerd("tag", "--force", image, name)

    def _containerd(self, *command: str) -> None:
        address = f"--address={self.folder}/containerd.sock"
        done = subprocess.run(
            ["ctr", address, "--namespace=k8s.io", "images", *command], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def log(self, name: str = "inside") -> str:
        """The end of the log of a process."""
        return (self.folder / "log" / f"{name}.log").read_text(errors="replace")[-5000:]

    def _wait_until_ready(self) -> None:
        def started() -> bool:
            assert self.process.poll() is None, f"the cluster has ended: {self.log()}"
            return (self.folder / "started").exists()

        eventually("the cluster's processes to start", started, START_SECONDS + READY_SECONDS)
        self.kubectl("apply", "--filename", HERE / "addons.yaml")
        self.kubectl(
            "apply",
            "--filename",
            "-",
            stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": volumes(self.folder)}),
        )
        self.wait_for_node()
        eventually(
            "the default service account", lambda: "default" in self.kubectl("get", "serviceaccounts", "--output=name")
        )

    def wait_for_node(self) -> None:
        """Wait until the node runs pods, with DNS and network policies."""
        self.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", f"--timeout={READY_SECONDS}s")
        for what in ("daemonset/network-policies", "deployment/dns"):
            self.kubectl("-n", "kube-system", "rollout", "status", what, f"--timeout={READY_SECONDS}s")

    def cgroups(self) -> list[Path]:
        """The folders of the cgroup that the pods are in."""
        return [*_cgroups((self.folder / "cgroup").read_text())]

    @property
    def inside(self) -> int:
        """The pid, out here, of process 1 in there."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def on_node(self) -> tuple[str, ...]:
        """What runs a command of this machine in the node's network; network policies do not hold for it."""
        return "nsenter", f"--net=/proc/{self.inside}/ns/net"

    def order(self, order: str) -> None:
        """Have process 1 do one of its ``ORDERS``, and wait until it is done."""
        (self.folder / "order").write_text(order)
        os.kill(self.inside, signal.SIGUSR1)

        def done() -> bool:
            assert self.process.poll() is None, f"the cluster has ended: {self.log()}"
            return not (self.folder / "order").exists()

        eventually(order, done, START_SECONDS)

    def rotate_signing_key(self) -> None:
        """From now on another key signs service account tokens; those of the old one are accepted too."""
        pki = self.folder / "pki"
        old = f"tokens-{time.monotonic_ns()}"
        for suffix in (".key", ".pub"):
            (pki / f"tokens{suffix}").rename(pki / f"{old}{suffix}")
        write_signing_key(pki / "tokens.key")
        self.order("restart-api-server")

    @contextlib.contextmanager
    def forwarded(self, host: str, port: int) -> Iterator[int]:
        """A port on this machine's loopback from which each connection goes to an address in there.

        They come from the node. Unlike kubectl's, it is not bound to a pod.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            number = str(listening.fileno())
            command = [*BOUND_TO_STARTER, *self.on_node(), sys.executable, "-m"]
            command += ["cluster.inside", "forward", number, host, str(port)]
            environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
            with subprocess.Popen(command, env=environment, pass_fds=[listening.fileno()]) as process:
                try:
                    yield listening.getsockname()[1]
                finally:
                    process.kill()

    def stop(self) -> None:
        """End everything and remove what it kept."""
        down(self.folder)
        self.process.wait(DOWN_SECONDS)


def down(folder: Path) -> None:
    """End a cluster, wherever it was brought up, and remove its folder and its cgroups."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        pid = int((folder / "process").read_text())
        if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(
                pid, signal.SIGKILL
            )  # unshare: the first process in the namespaces dies with it, and takes all along
            eventually("the cluster to end", lambda: not _alive(pid), DOWN_SECONDS)
    for path in _cgroups((folder / "cgroup").read_text()):
        eventually(f"{path} to be empty", lambda path=path: _removed(path), DOWN_SECONDS)
    eventually(f"{folder} to be removed", lambda: _deleted(folder), DOWN_SECONDS)


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def _deleted(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _cgroups(name: str) -> Iterator[Path]:
    """The folders of a cgroup: one for each controller, or one for all of them (version 2)."""
    found = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else sorted(CGROUPS.iterdir())
    yield from (folder / name for folder in found if not folder.is_symlink())


def _make_cgroups(name: str) -> None:
    for path in _cgroups(name):
        path.mkdir()
        # Without these nothing can be put into a new cgroup of this controller.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (path / file).exists() and not (path / file).read_text().strip():
                (path / file).write_text((path.parent / file).read_text())


def _sweep() -> None:
    """Remove the cgroups of clusters that were killed together with who started them."""
    for path in _cgroups(""):
        for old in path.glob("dagferry-*"):
            starter, used = old.name.split("-")[1], [*old.rglob("cgroup.procs")]
            if not Path(f"/proc/{starter}").exists() and not any(procs.read_text() for procs in used):
                _removed(old)


def _removed(path: Path) -> bool:
    """Remove a cgroup with those in it; ``False`` while there are processes in one."""
    for parent, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(parent)
    return not path.exists()
