"""Makes the golden files of a new format: ``PYTHONPATH=tests .venv/bin/python tests/golden/make.py format4``.

A server and a sidecar of the code at hand run as processes, and what they send and store is kept. A format that is
there already is refused: it is never made again (see README.md).
"""

import gzip
import http.client
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import zstandard

import goldens
from dagferry_core.bundle.reader import decompressed, read_tar
from harness import PATIENCE_SECONDS, Server, Sidecar

HERE = Path(__file__).parent
PROD, STAGING = goldens.DEPLOYMENT, "staging"


class Upload(NamedTuple):
    """What is deployed: files, those of them that are executable, and the description."""

    files: dict[str, bytes]
    executable: frozenset[str]
    description: str


LONG = "team/" + "long_" * 25 + "ä.sql"
FIRST = {
    "etl.py": b"import shop\n\nopen('sql/load.sql')\n",
    "shop.py": b"rate = 1\n" + b"".join(b"prices[%d] = %d\n" % (number, number * 7919 % 1009) for number in range(200)),
    "other.py": b"import os\n\nother = DAG('other')\n",
    "empty.py": b"",
    "bin/run.sh": b"#!/bin/sh\nexec true\n",
    "sql/load.sql": b"select 1\n",
    "sql/old.sql": b"select 'a content that is found again under another name'\n",
    LONG: b"select 2\n",
    "data/many.csv": b"0,0\n" * 300_000,  # more than one frame
    # What the default patterns exclude.
    ".git/config": b"[core]\n",
    "__pycache__/etl.pyc": b"\0",
    "team/.DS_Store": b"\0",
}
SECOND = {**FIRST, "shop.py": FIRST["shop.py"].replace(b"rate = 1", b"rate = 2")}
THIRD = {path: content for path, content in SECOND.items() if path not in {"other.py", "sql/old.sql"}}
THIRD |= {"new.py": b"import etl\n", "sql/new.sql": SECOND["sql/old.sql"]}
FOURTH = {**THIRD, "keys/id_rsa": b"no key\n"}
RUN = frozenset({"bin/run.sh"})
UPLOADS = (
    Upload(FIRST, RUN, 'First, with «quotes», "these" and\ttabs'),
    Upload(SECOND, RUN, "A line is changed"),
    Upload(THIRD, RUN | {"empty.py"}, ""),
    Upload(FOURTH, RUN | {"empty.py"}, "With a warning"),
)


def packed(upload: Upload) -> bytes:
    """Pack an upload as ``tar -czf dags.tar.gz dags`` does."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in upload.files.items():
            member = tarfile.TarInfo(f"dags/{path}")
            member.size, member.mode = len(content), 0o755 if path in upload.executable else 0o644
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue(), 9, mtime=0)


class Recorder:
    """Asks a server and keeps what it answers."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder

    def ask(self, name: str, path: str, file: str = "", method: str = "GET", **headers: str) -> Any:
        """Keep one exchange as ``wire/<name>.json``, its body beside it if that is no JSON; return the body."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        connection.request(method, path, (self._folder / file).read_bytes() if file else None, sent)
        response = connection.getresponse()
        body: Any = response.read()
        connection.close()
        answer: dict[str, Any] = {"status": response.status, "headers": dict(response.getheaders())}
        if response.headers.get("Content-Type") == "application/json":
            body = answer["body"] = json.loads(body)
        else:
            answer["file"] = f"wire/{name}.body"
            (self._folder / answer["file"]).write_bytes(body)
        request = {"method": method, "path": path, "headers": sent, **({"file": file} if file else {})}
        text = json.dumps({"request": request, "answer": answer}, indent=1, ensure_ascii=False)
        (self._folder / "wire" / f"{name}.json").write_text(text + "\n")
        return body


def deploy_all(recorder: Recorder, server: Server, root: Path, folder: Path) -> None:
    """Deploy every upload, and have the volume follow after each."""
    before = ""
    for number, upload in enumerate(UPLOADS, 1):
        file = f"uploads/{number}.tar.gz"
        (folder / file).write_bytes(packed(upload))
        query = f"?description={quote(upload.description)}" if upload.description else ""
        then = f"then-{number}"
        told = recorder.ask(f"{then}-upload", f"/{PROD}/dags/upload{query}", file, "POST")
        version = told["version"]
        recorder.ask(f"{then}-current", f"/{PROD}/dags/current")
        whole = recorder.ask(f"{then}-whole", f"/{PROD}/dags/versions/{version}")
        if before:
            recorder.ask(f"{then}-patch", f"/{PROD}/dags/versions/{version}?from={before}")
        manifest, _ = read_tar(decompressed(io.BytesIO(whole).read))
        (folder / "manifests" / f"{number}.txt").write_bytes(manifest.text)
        sidecar = Sidecar(server.url, root, "--deployment", PROD, "--once")
        if sidecar.process.wait(PATIENCE_SECONDS):
            raise SystemExit(sidecar.log.read_text())
        before = version


def ask_the_rest(recorder: Recorder, folder: Path) -> None:
    """Ask all that can be asked when all is deployed."""
    version = json.loads((folder / "wire" / "then-1-current.json").read_text())["answer"]["body"]["version"]
    current = recorder.ask("current", f"/{PROD}/dags/current")
    recorder.ask("current-seen", f"/{PROD}/dags/current", If_None_Match=f'"{current["version"]}"')
    recorder.ask("current-none", f"/{STAGING}/dags/current")
    recorder.ask("deploys", f"/{PROD}/dags/deploys")
    recorder.ask("deploys-page", f"/{PROD}/dags/deploys?limit=2&before=4")
    recorder.ask("deploy-first", f"/{PROD}/dags/deploys/{version}")
    recorder.ask("deploy-last", f"/{PROD}/dags/deploys/{current['version']}")
    recorder.ask("download", f"/{PROD}/dags/download")
    recorder.ask("not-found", f"/{PROD}/dags/versions/20200101T000000Z-000099")
    (folder / "uploads" / "refused.tar.gz").write_bytes(packed(Upload({"../etl.py": b""}, frozenset(), "")))
    recorder.ask("refused", f"/{PROD}/dags/upload", "uploads/refused.tar.gz", "POST")


def pack_volume(root: Path, out: Path) -> None:
    """Pack a volume with its links, modes and times, in an order that does not change."""

    def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, str(path.relative_to(root)), recursive=False, filter=nobodys)
    out.write_bytes(gzip.compress(tar.getvalue(), 9, mtime=0))


def make(folder: Path) -> None:
    """Make everything in ``folder``."""
    for name in ("wire", "uploads", "manifests"):
        (folder / name).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        data, root = Path(scratch, "data"), Path(scratch, "volume")
        server = Server(data, "--deployments", f"{PROD},{STAGING}").ready()
        try:
            recorder = Recorder(server.port, folder)
            deploy_all(recorder, server, root, folder)
            ask_the_rest(recorder, folder)
        finally:
            server.stop()
        (folder / "data.txt").write_text("".join(f"{line}\n" for line in goldens.listing(data)))
        shutil.copytree(data, folder / "data")
        pack_volume(root, folder / "volume.tar.gz")
    made = {
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "python": platform.python_version(),
        "zstd": zstandard.ZSTD_VERSION,
    }
    (folder / "made.json").write_text(json.dumps(made) + "\n")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def main(name: str) -> None:
    """Make the format of this name, unless it is there."""
    if os.path.lexists(HERE / name):
        raise SystemExit(f"tests/golden/{name} is there already. A golden format is never made again.")
    make(HERE / name)


if __name__ == "__main__":
    main(sys.argv[1])
