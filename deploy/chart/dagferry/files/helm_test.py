"""What `helm test` runs: makes a deployment, deploys a file to it, reads it back, and deletes the deployment.

It has nothing but Python's standard library. The URL of the server is in SERVER, the name of the deployment in
DEPLOYMENT, and the path of the pod's token in TOKEN_FILE. Ends with 1 and one line that says why if anything fails.
Run by tests/deploy/chart/test_helm_test.py.
"""

import io
import os
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request

SERVER, DEPLOYMENT = os.environ["SERVER"], os.environ["DEPLOYMENT"]
TIMEOUT_SECONDS = 30
ATTEMPTS, PAUSE_SECONDS = 30, 2
# The certificate is that of the server's public name, which a pod does not use. The token is valid for this test alone.
CONTEXT = ssl._create_unverified_context() if SERVER.startswith("https:") else None  # noqa: S323, SLF001


def ask(method: str, path: str, body: bytes | None = None) -> bytes:
    """Return the body of the answer; raise ``RuntimeError`` if it is not a 200."""
    with open(os.environ["TOKEN_FILE"], encoding="ascii") as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/gzip"}
    request = urllib.request.Request(SERVER + path, body, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=CONTEXT) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from None
    except OSError as error:
        raise RuntimeError(f"{method} {SERVER}{path}: {error}") from None


def archive(name: str, content: bytes) -> bytes:
    """Return a tar.gz of one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def files(packed: bytes) -> dict[str, bytes]:
    """Return the files of a tar.gz, without the folder that they are in."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        return {
            os.path.basename(entry.name): reader.read()
            for entry in tar
            if (reader := tar.extractfile(entry)) is not None
        }


def create() -> None:
    """Create the deployment. The cluster's keys may not have been fetched yet, so some attempts may fail."""
    last: RuntimeError | None = None
    for _ in range(ATTEMPTS):
        last = attempt()
        if last is None:
            return
        time.sleep(PAUSE_SECONDS)
    raise last or RuntimeError


def attempt() -> RuntimeError | None:
    """Try to create the deployment; return why that failed."""
    try:
        ask("POST", f"/-/deployments/{DEPLOYMENT}")
    except RuntimeError as error:
        return error
    return None


def test() -> str:
    """Run the test; return what happened, or raise ``RuntimeError``."""
    content = f"# written by the chart's test at {time.time()}\n".encode()
    create()
    try:
        ask("POST", f"/{DEPLOYMENT}/dags/upload", archive("helm_test.py", content))
        found = files(ask("GET", f"/{DEPLOYMENT}/dags/download"))
    finally:
        ask("DELETE", f"/-/deployments/{DEPLOYMENT}")
    if found != {"helm_test.py": content}:
        raise RuntimeError(f"The server returned other files than were deployed: {sorted(found)}")
    return "A deploy was stored and read back."


def main() -> int:
    """Run the test and say what happened; return the exit code."""
    try:
        said, code = test(), 0
    except RuntimeError as error:
        said, code = str(error), 1
    sys.stdout.write(said + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
