"""Ask a cluster as its administrator, or as anybody else: by HTTP and by kubectl."""

import contextlib
import json
import os
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.pki import Authority
from cluster.programs import find

ANSWER_SECONDS = 30


class Api:
    """The API of a cluster at ``url`` whose certificates are of ``authority``; ``folder`` is for what kubectl keeps."""

    def __init__(self, folder: Path, url: str, authority: Authority) -> None:
        self.folder, self.url, self.authority = folder, url, authority
        self.kubeconfig = authority.kubeconfig("admin", url, "admin", "system:masters")

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Status and body of a call as the administrator, or with this bearer token ("" for none)."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if token is None:
            context.load_cert_chain(self.authority.folder / "admin.crt", self.authority.folder / "admin.key")
        sent = {"Accept": "application/json", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS, context=context) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())

    def token(self, namespace: str, account: str, audience: str = "") -> str:
        """A token of a service account, as the kubelet asks for it (TokenRequest); for the API server by default."""
        spec: Mapping[str, Any] = {"audiences": [audience] if audience else None, "expirationSeconds": 3600}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        status, body = self.request("POST", path, {"spec": spec})
        assert status == 201, body
        return str(body["status"]["token"])

    def kubectl(self, *arguments: str | Path, stdin: str = "", fails: bool = False) -> str:
        """What kubectl prints; its complaint is the failure, or what is returned if it is to fail."""
        return self._run("kubectl", *arguments, stdin=stdin, fails=fails)

    def helm(self, *arguments: str | Path, stdin: str = "", fails: bool = False) -> str:
        """What Helm prints; its complaint is the failure, or what is returned if it is to fail."""
        return self._run("helm", *arguments, stdin=stdin, fails=fails)

    @contextlib.contextmanager
    def port_forward(self, namespace: str, service: str) -> Iterator[str]:
        """The URL, on this machine, of port 8000 of a pod of a Service."""
        command = [find("kubectl"), f"--kubeconfig={self.kubeconfig}", "-n", namespace, "port-forward"]
        with subprocess.Popen([*command, f"service/{service}", ":8000"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found
            yield f"http://127.0.0.1:{found[1]}"
            process.terminate()

    def _run(self, program: str, *arguments: str | Path, stdin: str, fails: bool) -> str:
        # Nothing of the user who runs the tests is read or written.
        own = {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder / "home"), "KUBECTL_KUBERC": "false"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "XDG_"))}
        command = [find(program), *arguments]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, input=stdin, env={**inherited, **own}
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(body))
    except ValueError:
        return {"text": body.decode(errors="replace")}
