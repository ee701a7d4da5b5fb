"""Makes the golden files of a new format: ``PYTHONPATH=tests .venv/bin/python tests/golden/make.py format6``.

A server and a sidecar of the code at hand run as processes, and what they send and store is kept. A format that is
there already is refused: it is never made again (see README.md).
"""

import gzip
import hashlib
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
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import decompressed, read_tar
from harness import PATIENCE_SECONDS, Server, Sidecar

HERE = Path(__file__).parent
PROD, STAGING, SHARED = goldens.DEPLOYMENT, "staging", goldens.SHARED
ARGUMENTS = (
    *("--deployments", f"{PROD},{STAGING},{SHARED}", "--tiers", "1"),
    *("--gate", "enforce", "--airflow-python", "3.11"),
)


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


DAG = b"from airflow import DAG\n\nDAG('%s')\n"
TEAM_A = {"a.py": b"import shared\n" + DAG % b"a", "sql/a.sql": b"select 'a'\n", "old.py": DAG % b"old"}
TEAM_B = {"b.py": b"import os\n" + DAG % b"b", "c.py": DAG % b"c"}
CHANGED = {"a.py": TEAM_A["a.py"] + b"# changed\n"}
BROKEN = {"broken.py": DAG % b"broken" + b"DAG(\n"}
GIT = {"commit": "31d7e5f0", "branch": "main", "author": "Ann <ann@example.com>", "repository": "acme/dags"}


def packed(upload: Upload, top: str = "dags/") -> bytes:
    """Pack an upload as ``tar -czf dags.tar.gz dags`` does."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in upload.files.items():
            member = tarfile.TarInfo(f"{top}{path}")
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


class Shared:
    """Deploys to ``SHARED`` in every other way, and is refused: ``wire/shared-<step>-<name>.json``, in this order."""

    def __init__(self, recorder: Recorder, folder: Path) -> None:
        self._recorder = recorder
        self._folder = folder
        self._steps = 0

    def _step(self, name: str, path: str, body: bytes, suffix: str, method: str = "POST", **headers: str) -> Any:
        self._steps += 1
        name = f"{SHARED}-{self._steps:02}-{name}"
        file = f"uploads/{name}.{suffix}" if body else ""
        if body:
            (self._folder / file).write_bytes(body)
        return self._recorder.ask(name, path, file, method, **headers)

    def upload(self, name: str, files: dict[str, bytes], query: str, **headers: str) -> Any:
        """Upload a whole tree, or one folder."""
        return self._step(
            name, f"/{SHARED}/dags/upload{query}", packed(Upload(files, frozenset(), "")), "tar.gz", **headers
        )

    def change(self, name: str, base: str, digest: str, removed: list[str], query: str = "") -> Any:
        """Upload ``CHANGED`` as a change of ``base``."""
        archive = packed(Upload(CHANGED, frozenset(), ""), top="")
        head = b'--golden\r\nContent-Disposition: form-data; name="removed"\r\n\r\n' + json.dumps(removed).encode()
        head += b'\r\n--golden\r\nContent-Disposition: form-data; name="file"; filename="change.tar.gz"\r\n\r\n'
        form = head + archive + b"\r\n--golden--\r\n"
        path = f"/{SHARED}/dags/upload?base={base}&digest={quote(digest)}{query}"
        return self._step(name, path, form, "form", Content_Type="multipart/form-data; boundary=golden")

    def post(self, name: str, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        """Send JSON, or nothing."""
        data = json.dumps(body).encode() if body is not None else b""
        headers = {"Content_Type": "application/json"} if data else {}
        return self._step(name, path, data, "json", method, **headers)


def share(recorder: Recorder, folder: Path) -> None:
    """Make deploys of all kinds, with all that an entry can have, and state beside the log."""
    shared = Shared(recorder, folder)
    rollback, promote, freeze = (f"/{SHARED}/dags/{what}" for what in ("rollback", "promote", "freeze"))
    files = {"shared.py": b"x = 1\n", **{f"team-a/{path}": content for path, content in TEAM_A.items()}}
    first = shared.upload("whole", files, f"?description=first&git={quote(json.dumps(GIT))}&skip_gate=1")
    shared.upload("broken", {**files, **BROKEN}, "")
    shared.upload("dry-run", TEAM_B, "?under=team-b/&dry_run=1")
    other = shared.upload("folder", TEAM_B, "?under=team-b/&description=b")
    shared.upload("mismatch", CHANGED, "?under=team-a/", If_Match=f'"{first["version"]}x"')
    kept = {path: content for path, content in (TEAM_A | CHANGED).items() if path != "old.py"}
    digest = Manifest(
        Entry(path, len(content), 0o644, hashlib.sha256(content).hexdigest()) for path, content in kept.items()
    ).digest
    shared.change("change", other["version"], digest, ["old.py"], "&under=team-a/")
    shared.change("change-mismatch", other["version"], "sha256:" + "0" * 64, [])
    shared.change("base-gone", "20200101T000000Z-000099", "sha256:" + "0" * 64, [])
    shared.upload("removals", {"shared.py": b"x = 2\n"}, "")
    shared.upload("allow-removals", {"shared.py": b"x = 2\n", "team-a/a.py": TEAM_A["a.py"]}, "?allow_removals=1")
    shared.post("rollback-folder", rollback, {"version": first["version"], "under": "team-a/"})
    shared.post("promote", promote, {"from": PROD, "description": "from prod"})
    shared.upload("skip-gate", {**files, **BROKEN}, "?skip_gate=1&allow_removals=1")
    shared.post("rollback", rollback, {"version": other["version"], "description": "back"})
    shared.post("rollback-unchanged", rollback, {"version": other["version"]})
    shared.post("create", "/-/deployments/preview")
    shared.post("create-other", "/-/deployments/gone")
    shared.post("delete", "/-/deployments/gone", method="DELETE")
    shared.post("freeze-for-now", freeze, {"reason": "a while"})
    shared.post("frozen", rollback, {"version": first["version"]})
    last = shared.post("override", f"{rollback}?override_freeze=1", {"version": first["version"], "under": "team-b/"})
    shared.post("override-again", f"{promote}?override_freeze=1&skip_gate=1&allow_removals=1", {"from": PROD})
    shared.post("unfreeze", freeze, method="DELETE")
    shared.post("freeze", freeze, {"reason": "the release, «v2»"})
    recorder.ask("shared-current", f"/{SHARED}/dags/current")
    recorder.ask("shared-deploys", f"/{SHARED}/dags/deploys")
    recorder.ask("shared-deploy-first", f"/{SHARED}/dags/deploys/{first['version']}")
    recorder.ask("shared-deploy-folder", f"/{SHARED}/dags/deploys/{last['version']}")
    recorder.ask("shared-files", f"/{SHARED}/dags/versions/{last['version']}/files", Accept_Encoding="identity")
    recorder.ask("shared-file", f"/{SHARED}/dags/versions/{last['version']}/files/team-a/a.py")
    recorder.ask("shared-diff", f"/{SHARED}/dags/diff?from={first['version']}&to={last['version']}")
    recorder.ask("shared-status", f"/{SHARED}/dags/status")
    recorder.ask("deployments", "/-/deployments")
    recorder.ask("whoami", "/-/whoami")


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
        server = Server(data, *ARGUMENTS).ready()
        try:
            recorder = Recorder(server.port, folder)
            deploy_all(recorder, server, root, folder)
            ask_the_rest(recorder, folder)
            share(recorder, folder)
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
        "arguments": ARGUMENTS,
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
