"""Uploads of changes and of folders to a server in the test's event loop, and what is deployed then."""

import io
import json
import tarfile

import aiohttp

from running import Answer, Running


def archive(files: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    """A tar with these files at their plain paths, and nothing else."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), (modes or {}).get(path, 0o644)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


async def change(
    server: Running,
    base: str,
    digest: str,
    files: dict[str, bytes],
    removed: list[str] | None = None,
    *,
    more: str = "",
    modes: dict[str, int] | None = None,
    deployment: str = "default",
) -> Answer:
    """Upload what changed since ``base``."""
    form = aiohttp.FormData()
    form.add_field("file", archive(files, modes), filename="change.tar")
    if removed is not None:
        form.add_field("removed", json.dumps(removed))
    return await server.upload(form, f"/{deployment}/dags/upload?base={base}&digest={digest}{more}")


async def content(server: Running, deployment: str = "default") -> dict[str, bytes]:
    """The files of the current deploy."""
    answer = await server.get(f"/{deployment}/dags/download")
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {
            member.name.removeprefix("dags/"): file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member))
        }
