"""What the real curl sends when it is used wrongly, and whether the answer says what to do.

Archives of the wrong kind are here too: what is said of them is for the same people.
"""

import asyncio
import base64
import gzip
import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard

from harness import pack
from running import A, Running

PLAIN = gzip.decompress(pack(A))
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>" * 9


class Told(NamedTuple):
    status: int
    code: str
    message: str
    hint: str


@pytest.fixture(autouse=True)
def curl_is_there() -> None:
    if not shutil.which("curl"):
        if os.environ.get("CI"):
            pytest.fail("curl is missing: apt-get install curl")
        pytest.skip("curl is not installed")


async def curl(server: Running, folder: Path, *arguments: str, path: str = "/default/dags/upload") -> Any:
    """Run curl in ``folder``, and return the status and the JSON of the answer."""
    url = f"http://{server.host}:{server.port}{path}"
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-w", "\n%{http_code}", *arguments, url, cwd=folder, stdout=-1, stderr=-1
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors
    body, _, status = out.decode().rpartition("\n")
    return int(status), json.loads(body)


async def refused(server: Running, folder: Path, *arguments: str) -> Told:
    status, answer = await curl(server, folder, *arguments)
    return Told(status, **answer)


@pytest.fixture
def here(tmp_path) -> Path:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/a.py").write_text("import os\nx = 1\n")
    (tmp_path / "dags.tar.gz").write_bytes(pack(A))
    (tmp_path / "dags.tar").write_bytes(PLAIN)
    (tmp_path / "dags.tar.zst").write_bytes(zstandard.compress(PLAIN + os.urandom(9000)))
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.mark.parametrize("archive", ["dags.tar.gz", "dags.tar"])
async def test_what_the_docs_say_deploys(server, here, archive) -> None:
    status, answer = await curl(server, here, "-F", f"{archive}=@{archive}", "-F", "description=x")
    assert (status, answer["unchanged"]) == (200, False)
    status, answer = await curl(server, here, "--data-binary", f"@{archive}")
    assert (status, answer["unchanged"]) == (200, True)


@pytest.mark.parametrize("part", ["dags", "dags/", "empty"])
async def test_the_error_for_a_folder_as_the_file_says_how_to_pack_it(server, here, part) -> None:
    told = await refused(server, here, "-F", f"dags.tar.gz=@{part}")
    assert told[:2] == (503, "upload_empty_body")
    assert f"'{part.rstrip('/')}'" in told.message
    assert "folder" in told.message
    assert "tar -czf dags.tar.gz dags" in told.hint


async def test_a_body_without_bytes_is_503_too(server, here) -> None:
    told = await refused(server, here, "--data-binary", "@empty")
    assert told[:3] == (503, "upload_empty_body", "The body is empty.")


async def test_a_forgotten_at_sign_is_reported(server, here) -> None:
    told = await refused(server, here, "-F", "dags.tar.gz=dags.tar.gz")
    assert told[:2] == (400, "multipart_invalid")
    assert "@ before its name" in told.message


@pytest.mark.parametrize("data", ["@dags.tar.gz", "@dags.tar", "@dags.tar.zst", "dags.tar.gz"])
async def test_the_error_for_an_archive_sent_as_text_says_how_to_send_it(server, here, data) -> None:
    told = await refused(server, here, "-d", data)
    assert told.status == 422
    assert told.message.startswith("The body was sent as text")
    assert "--data-binary @dags.tar.gz" in told.hint


async def test_a_page_that_was_sent_as_text_is_still_a_page(server, here) -> None:
    (here / "page").write_bytes(PAGE)
    told = await refused(server, here, "-d", "@page")
    assert told[:2] == (422, "archive_not_recognized")
    assert "HTML" in told.message


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("dags/a.py", "x = 1\n")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (pack(A), "a gzip"),
        (zstandard.compress(PLAIN), "a zstd"),
        (zipped(), "a zip file"),
        (b"import os\nprint(os.environ)\n", "text that begins with 'import os"),
        (b"# coding: utf-8\n" + "# \u00e9\n".encode() * 400, "text that begins with '# coding"),
        (PAGE, "an HTML page"),
        (bytes(range(1, 256)) * 4, "something else"),
    ],
)
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
async def test_what_was_compressed_and_is_no_tar_is_recognized_by_its_kind(
    server, here, content, kind, compress
) -> None:
    (here / "dags.tar.gz").write_bytes(compress(content))
    told = await refused(server, here, "-F", "dags.tar.gz=@dags.tar.gz")
    assert told[:2] == (422, "archive_not_recognized")
    assert told.message.startswith(f"The compressed data is not a tar, but {kind}")
    assert "tar -czf" in told.hint


@pytest.mark.parametrize(
    ("content", "kind"),
    [(zipped(), "a zip file"), (PAGE, "an HTML page"), (b"x = 1\n", "text that begins with 'x = 1")],
)
async def test_what_is_no_archive_is_recognized_by_its_kind(server, here, content, kind) -> None:
    (here / "dags.tar.gz").write_bytes(content)
    told = await refused(server, here, "-F", "dags.tar.gz=@dags.tar.gz")
    assert told[:2] == (422, "archive_not_recognized")
    assert kind in told.message


def form(here: Path, name: str, body: bytes) -> tuple[str, ...]:
    (here / name).write_bytes(body)
    return ("-H", "Content-Type: multipart/form-data; boundary=b", "--data-binary", f"@{name}")


async def test_a_file_that_is_base64_is_reported(server, here) -> None:
    """As Ansible's module ``uri`` sends it, with ``body_format: form-multipart``."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="dags.tar.gz"\r\n'
    head += b"Content-Transfer-Encoding: base64\r\n\r\n"
    told = await refused(server, here, *form(here, "form", head + base64.encodebytes(pack(A)) + b"\r\n--b--\r\n"))
    assert told[:2] == (400, "multipart_invalid")
    assert "base64" in told.message
    assert "unencoded" in told.hint


@pytest.mark.parametrize("encoding", [b"binary", b"8bit", b"7BIT"])
async def test_encodings_that_change_nothing_are_taken(server, here, encoding) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="dags.tar.gz"\r\n'
    head += b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n"
    status, _ = await curl(server, here, *form(here, "form", head + pack(A) + b"\r\n--b--\r\n"))
    assert status == 200


async def test_a_form_with_the_wrong_line_ends_is_reported(server, here) -> None:
    lines = b'--b\nContent-Disposition: form-data; name="f"; filename="x"\n\n' + pack(A) + b"\n--b--\n"
    told = await refused(server, here, *form(here, "form", lines))
    assert told[:2] == (400, "multipart_invalid")
    assert "LF instead of CRLF" in told.message


# --- which folder of the archive ------------------------------------------------------------------------------------


async def test_a_folder_of_the_archive_is_deployed(server, here) -> None:
    (here / "repo.tar.gz").write_bytes(pack({"dags/etl.py": b"x = 1\n", "README.md": b"r\n"}, "acme-etl-0123abc/"))
    status, answer = await curl(server, here, "--data-binary", "@repo.tar.gz")
    assert (status, answer["added"]) == (200, 2)
    assert any("?root=acme-etl-0123abc/dags;" in warning for warning in answer["warnings"])
    for root in ("acme-etl-0123abc/dags", "./acme-etl-0123abc/dags/"):
        status, answer = await curl(
            server, here, "--data-binary", "@repo.tar.gz", path=f"/default/dags/upload?root={root}"
        )
        assert (status, answer["warnings"]) == (200, [])
        assert answer["sequence"] == 2
    assert answer["unchanged"]


@pytest.mark.parametrize("query", ["?root", "?root=", "?root=..", "?root=/dags", "?root=a//b", "?root=a%00"])
async def test_a_root_that_cannot_be_one_is_refused(server, here, query) -> None:
    status, answer = await curl(server, here, "--data-binary", "@dags.tar.gz", path="/default/dags/upload" + query)
    assert (status, answer["code"]) == (400, "request_invalid")
    assert "root" in answer["message"]


async def test_the_error_for_a_missing_root_lists_what_is_there(server, here) -> None:
    status, answer = await curl(server, here, "--data-binary", "@dags.tar.gz", path="/default/dags/upload?root=src")
    assert (status, answer["code"]) == (422, "root_not_found")
    assert "'dags'" in answer["message"]
