"""A slow link: a network namespace that reaches this machine at a limited rate, and with a delay, packet by packet.

Each end is a TUN device, and a process between them holds each packet back, so connections are slow as TCP is on such
a line: with handshakes, slow start and acknowledgements that also take their time. (``tc netem`` does the same, where
the kernel has it.) Needs root, ``/dev/net/tun``, and ``ip``, ``unshare`` and ``nsenter``.
"""

import fcntl
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

NEAR, FAR = "198.18.0.1", "198.18.0.2"
"""From the range for benchmarks (RFC 2544). ``NEAR`` is this machine, as the far end sees it."""
MTU = 1500
MAX_QUEUED_BYTES = 64 * 1024
"""In each direction; what comes on top is dropped, as a router does."""
START_SECONDS = 10
_TUNSETIFF = 0x400454CA
_IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000


def missing() -> str:
    """Return what this machine lacks for a link, ``""`` if nothing."""
    if os.geteuid() != 0:
        return "root"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun"
    return next((program for program in ("ip", "unshare", "nsenter") if not shutil.which(program)), "")


class Link:
    """A link with ``bits`` per second in each direction and ``round_trip`` seconds, until it is closed.

    ``command`` is what a command line at the far end begins with.
    """

    def __init__(self, bits: int, round_trip: float) -> None:
        self._near = _device(NEAR)
        settings = [str(self._near), str(bits), str(round_trip / 2)]
        self._process = subprocess.Popen(
            ["unshare", "--net", sys.executable, __file__, *settings],
            pass_fds=[self._near],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], START_SECONDS)[0]
        assert ready, "the link did not start"
        self._process.stdout.readline()
        self.command = ["nsenter", f"--net=/proc/{self._process.pid}/ns/net", "--"]

    def close(self) -> None:
        """Remove both ends."""
        self._process.communicate()
        os.close(self._near)


def _device(address: str) -> int:
    """Make a TUN device with this address that is there for as long as the returned file is open."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    made = fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", b"dagferry%d", _IFF_TUN_WITHOUT_HEADER))
    name = made[:16].rstrip(b"\0").decode()
    subprocess.run(["ip", "address", "add", f"{address}/30", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up", "mtu", str(MTU)], check=True)
    return handle


class _Direction:
    """The packets that are on their way from one device to the other."""

    def __init__(self, source: int, target: int, bits: int, delay: float) -> None:
        self.source = source
        self._target = target
        self._bits = bits
        self._delay = delay
        self._free = 0.0
        self._packets: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        """Read a packet; drop it if too many wait for the line."""
        packet = os.read(self.source, MTU)
        now = time.monotonic()
        if (self._free - now) * self._bits / 8 > MAX_QUEUED_BYTES:
            return
        self._free = max(self._free, now) + len(packet) * 8 / self._bits
        self._packets.append((self._free + self._delay, packet))

    def give(self) -> float | None:
        """Write the packets that have arrived; return in how many seconds the next one does."""
        while self._packets:
            left = self._packets[0][0] - time.monotonic()
            if left > 0:
                return left
            os.write(self._target, self._packets.popleft()[1])
        return None


def forward(near: int, far: int, bits: int, delay: float) -> None:
    """Forward packets both ways until stdin ends."""
    ways = [_Direction(near, far, bits, delay), _Direction(far, near, bits, delay)]
    while True:
        left = [seconds for way in ways if (seconds := way.give()) is not None]
        ready = select.select([way.source for way in ways] + [0], [], [], min(left) if left else None)[0]
        if 0 in ready:
            return
        for way in ways:
            if way.source in ready:
                way.take()


if __name__ == "__main__":
    far_end = _device(FAR)
    print("ready", flush=True)
    forward(int(sys.argv[1]), far_end, int(sys.argv[2]), float(sys.argv[3]))
