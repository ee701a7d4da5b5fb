"""Process 1 of a cluster's namespaces: it starts everything, collects what ends, and when it ends, all of it ends.

    python -m cluster.inside FOLDER LISTENING
    python -m cluster.inside forward LISTENING HOST PORT

``FOLDER`` is prepared by ``outside``; ``LISTENING`` is the descriptor of a socket on the machine's loopback, of which
each connection goes to the API server in here, or to the given address. When the node runs and has its images,
``FOLDER/started`` appears. On SIGUSR1, what ``FOLDER/order`` names is done (see ``ORDERS``), and the file removed.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from cluster.control import START_SECONDS
from cluster.node import (
    API_PORT,
    GATEWAY,
    MACHINE,
    NODE,
    NODE_ADDRESS,
    NODE_PREFIX,
    POD_RANGE,
    QUEUE,
    control_commands,
    node_commands,
)
from cluster.programs import find

PAUSE_SECONDS = 0.1
CHUNK_BYTES = 64 * 1024
SYSTEM_FOLDERS = ("/run", "/var/lib/cni", "/var/log", "/etc/cni")
"""What kubelet, containerd and the pods' network write to, wherever they are told to: in here these are empty."""
WANTED_BY_KUBELET = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""Settings of the kernel that the kubelet insists on, and would change for the whole machine."""


def run(*command: str | Path) -> None:
    """Run a command, to its end; its complaint is the failure."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr}")


def make_mounts(folder: Path) -> None:
    """Hide what the machine has from what runs here, and the other way round."""
    run("mount", "--make-rshared", "/")
    for path in SYSTEM_FOLDERS:
        if Path(path).is_dir():
            run("mount", "-t", "tmpfs", "tmpfs", path)
    # In here they look as the kubelet wants them.
    (folder / "sysctl").mkdir()
    for name, value in WANTED_BY_KUBELET.items():
        seen = folder / "sysctl" / name.replace("/", ".")
        seen.write_text(f"{value}\n")
        run("mount", "--bind", seen, f"/proc/sys/{name}")


def make_network() -> None:
    """Make the node's address, and have packets of pods judged by the network policies."""
    run("hostname", NODE)
    for line in (
        "link set lo up",
        "link add node type bridge",
        f"address add {NODE_ADDRESS}/{NODE_PREFIX} dev node",
        "link set node up",
        # A bridge has no carrier without a member.
        "link add node-a type veth peer name node-b",
        "link set node-a master node up",
        "link set node-b up",
        f"route add default via {GATEWAY} dev node onlink",
    ):
        run("ip", *line.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # Else what goes from pod to pod over their bridge passes by the rules of Services and policies.
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged.exists():
        bridged.write_text("1")
    # As kube-network-policies' own rules for nftables, whose verdict "queue" not every kernel has. What the node itself
    # sends, such as the kubelet's probes, is root's and passes.
    rules = ["-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN", "-m owner --uid-owner 0 -j RETURN"]
    rules += [f"-{way} {POD_RANGE} -j NFQUEUE --queue-num {QUEUE}" for way in ("s", "d")]
    run("iptables", "-w", "-t", "mangle", "-N", "POLICIES")
    run("iptables", "-w", "-t", "mangle", "-A", "POSTROUTING", "-j", "POLICIES")
    for rule in rules:
        run("iptables", "-w", "-t", "mangle", "-A", "POLICIES", *rule.split())


class Processes:
    """The processes of the cluster, by name; the logs are in ``folder/log``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[int, str] = {}

    def start(self, name: str, command: Sequence[str], **options: object) -> None:
        with (self._folder / "log" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)  # type: ignore[call-overload]
        self._names[process.pid] = name
        process.returncode = 0  # ``collect`` waits for it, not its object

    def pid(self, name: str) -> int:
        """The pid of a process."""
        return next(pid for pid, found in self._names.items() if found == name)

    def forget(self, names: Collection[str]) -> list[int]:
        """These may end now; return the pids of all others."""
        self._names = {pid: name for pid, name in self._names.items() if name not in names}
        return [*self._names]

    def collect(self, *, block: bool = False) -> str | None:
        """Collect processes that have ended; return the name of one of ours, without which there is no cluster."""
        while True:
            try:
                pid, _ = os.waitpid(-1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                return None
            if not pid or pid in self._names:
                return self._names.get(pid)


def wait_for(what: str, command: Sequence[str | Path], processes: Processes) -> None:
    """Wait until a command succeeds; fail when a process has ended, or after a time."""
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(command, check=False, capture_output=True).returncode:
        if ended := processes.collect():
            raise RuntimeError(f"{ended} has ended")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not answer within {START_SECONDS} s")
        time.sleep(PAUSE_SECONDS)


async def forward(listening: socket.socket, host: str, port: int) -> None:
    """Carry each connection of a socket to an address in here, until cancelled."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
        inner_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, sock=listening)
    await server.serve_forever()


def containerd_client(folder: Path) -> list[str]:
    """How to ask containerd."""
    return ["ctr", f"--address={folder}/containerd.sock", "--namespace=k8s.io"]


def wait_for_api(folder: Path, processes: Processes) -> None:
    """Wait until the API server is ready."""
    kubectl = [find("kubectl"), f"--kubeconfig={folder}/pki/inside.kubeconfig"]
    wait_for("the API server", [*kubectl, "get", "--raw=/readyz"], processes)


def start_containerd(folder: Path, processes: Processes) -> None:
    """Start containerd and wait for it."""
    processes.start("containerd", node_commands(folder)["containerd"])
    wait_for("containerd", [*containerd_client(folder), "version"], processes)


def power_off(folder: Path, processes: Processes) -> None:
    """The machine of the node is without power: its processes are gone at once, and all that a restart would clear.

    The processes of the control plane are not on that machine. What was written to disk stays.
    """
    kept = {os.getpid(), *processes.forget(MACHINE)}
    while others := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in kept]:
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        processes.collect()
        time.sleep(PAUSE_SECONDS)
    lost = ("/run/netns/", f"{folder}/containerd-state/", f"{folder}/kubelet/")
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (mounted := line.split()[4]).startswith(lost):
            run("umount", "--lazy", mounted)
    shutil.rmtree(folder / "containerd-state")


def power_on(folder: Path, processes: Processes) -> None:
    """The machine of the node starts again."""
    start_containerd(folder, processes)
    for name in MACHINE:
        if name != "containerd":
            processes.start(name, node_commands(folder)[name])


def restart_api_server(folder: Path, processes: Processes) -> None:
    """Start the API server anew, with the keys that there are now."""
    pid = processes.pid("api-server")
    processes.forget(["api-server"])
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists():
        processes.collect()
        time.sleep(PAUSE_SECONDS)
    processes.start("api-server", control_commands(folder)["api-server"])
    wait_for_api(folder, processes)


ORDERS: dict[str, Callable[[Path, Processes], None]] = {
    "power-off": power_off,
    "power-on": power_on,
    "restart-api-server": restart_api_server,
}


def main(folder: Path, listening: int) -> None:
    """Start everything, then collect what ends until a process of the cluster has."""
    make_mounts(folder)
    make_network()
    processes = Processes(folder)
    for name, command in control_commands(folder).items():
        processes.start(name, command)
    itself = [sys.executable, "-m", "cluster.inside", "forward", str(listening), NODE_ADDRESS, str(API_PORT)]
    processes.start("forward", itself, pass_fds=[listening])
    wait_for_api(folder, processes)
    start_containerd(folder, processes)
    for name, command in node_commands(folder).items():
        if name != "containerd":
            processes.start(name, command)
    # Meanwhile the node becomes ready; there are no pods yet.
    for archive in sorted((folder / "images").iterdir()):
        run(*containerd_client(folder), "images", "import", archive.resolve())

    def ordered(*_: object) -> None:
        order = folder / "order"
        ORDERS[order.read_text()](folder, processes)
        order.unlink()

    signal.signal(signal.SIGUSR1, ordered)
    (folder / "started").touch()
    while not (ended := processes.collect(block=True)):
        pass
    sys.exit(f"{ended} has ended")


if __name__ == "__main__":
    if sys.argv[1] == "forward":
        asyncio.run(forward(socket.socket(fileno=int(sys.argv[2])), sys.argv[3], int(sys.argv[4])))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        main(Path(sys.argv[1]), int(sys.argv[2]))
