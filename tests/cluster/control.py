"""A real API server: etcd and kube-apiserver as processes that end with the process that started them.

Nobody runs pods here, and there are no controllers: what it answers to is admission, dry runs, tokens and keys.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cluster.api import Api
from cluster.pki import Authority, write_signing_key
from cluster.programs import find, version
from harness import eventually, free_port

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""Who issues service account tokens: what a cluster calls itself unless told otherwise."""
SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
"""The address of the Service ``kubernetes``: the first of the range."""
START_SECONDS = 120
STOP_SECONDS = 30
BOUND_TO_STARTER = ("setpriv", "--pdeathsig", "KILL")
"""Runs a command that dies with the process that started it, however that ends."""


def etcd_command(folder: Path, port: int, peer_port: int) -> list[str]:
    """The command of an etcd with its data in ``folder``, on loopback; what it holds need not survive a power loss."""
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(find("etcd")), f"--data-dir={folder}", "--unsafe-no-fsync", "--log-level=warn",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
    ]  # fmt: skip


def api_server_command(
    pki: Path,
    etcd_port: int,
    address: str,
    port: int,
    *,
    signing_key: Path,
    other_keys: Sequence[Path] = (),
    issuer: str = ISSUER,
) -> list[str]:
    """The command of a kube-apiserver, with its certificates in ``pki``.

    Tokens are signed with one key, and accepted when another has signed them.
    """
    accepted = [f"--service-account-key-file={key.with_suffix('.pub')}" for key in (signing_key, *other_keys)]
    return [
        str(find("kube-apiserver")), f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--bind-address={address}", f"--advertise-address={address}", f"--secure-port={port}",
        f"--tls-cert-file={pki}/api-server.crt", f"--tls-private-key-file={pki}/api-server.key",
        f"--client-ca-file={pki}/ca.crt", "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--service-account-issuer={issuer}", f"--service-account-signing-key-file={signing_key}", *accepted,
        "--profiling=false",
    ]  # fmt: skip


class ApiServer(Api):
    """An API server on a free port of loopback, with its data, keys and logs in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.version = version("kube-apiserver")
        self.port, self._etcd_port = free_port(), free_port()
        super().__init__(folder, f"https://127.0.0.1:{self.port}", Authority(folder / "pki"))
        self.authority.issue(
            "api-server", "kube-apiserver", addresses=["127.0.0.1", SERVICE_ADDRESS], hosts=["kubernetes.default.svc"]
        )
        self.signing_key = write_signing_key(folder / "pki" / "tokens.key")
        self._etcd = self._start("etcd", etcd_command(folder / "etcd", self._etcd_port, free_port()))
        try:
            self._server = self._start_server()
        except BaseException:
            self._etcd.kill()
            raise

    def _start(self, name: str, command: list[str]) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*BOUND_TO_STARTER, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def _start_server(self, other_keys: Sequence[Path] = (), issuer: str = ISSUER) -> "subprocess.Popen[bytes]":
        command = api_server_command(
            self.authority.folder, self._etcd_port, "127.0.0.1", self.port,
            signing_key=self.signing_key, other_keys=other_keys, issuer=issuer,
        )  # fmt: skip
        # Its own address cannot be loopback in the endpoints of the Service `kubernetes`, which nobody uses here.
        server = self._start("api-server", [*command, "--endpoint-reconciler-type=none"])

        def ready() -> bool:
            for process, name in ((server, "api-server"), (self._etcd, "etcd")):
                assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-5000:]
            try:
                return self.request("GET", "/readyz")[0] == 200
            except OSError:
                return False

        try:
            eventually("the API server to be ready", ready, START_SECONDS)
        except BaseException:
            server.kill()
            raise
        return server

    def restart(self, signing_key: Path | None = None, other_keys: Sequence[Path] = (), issuer: str = ISSUER) -> None:
        """Start it anew, with another key for tokens as in a rotation; ``other_keys`` stay accepted."""
        self._end(self._server)
        self.signing_key = signing_key or self.signing_key
        self._server = self._start_server(other_keys, issuer)

    def stop(self) -> None:
        """End both processes."""
        self._end(self._server)
        self._end(self._etcd)

    @staticmethod
    def _end(process: "subprocess.Popen[bytes]") -> None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
