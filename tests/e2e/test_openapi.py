"""Whatever is thrown at the calls of /openapi.json, the answer is one that it describes, and never a 500."""

import os
import shutil
import subprocess

import pytest

from credentials import TokensFile
from harness import free_port

CONFIG = """
[checks]
# An empty upload is 503, because clients repeat that and take a 200 for success (docs/reference/protocol.md).
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
# No schema can say which bytes are an archive.
positive_data_acceptance.enabled = false
# A frozen deployment is refused before the body is read.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 415, 422, 423, "5xx"]

[parameters]
"path.deployment" = "default"
"path.version" = "{version}"
"""


@pytest.fixture
def schemathesis() -> str:
    found = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    if found is None and os.environ.get("CI"):
        pytest.fail("CI needs schemathesis: see requirements/fuzz.txt")
    return found or pytest.skip("needs schemathesis: see requirements/fuzz.txt")


@pytest.mark.parametrize("caller", ["anybody", "a token", "a token that is no good"])
def test_no_answer_is_undocumented(serve, tmp_path, schemathesis, caller) -> None:
    described = server = None
    flags: list[str] = []
    astro = ("--astro-cli", "/astro")
    if caller == "anybody":
        server = serve(*astro)
        described = server.url
    else:
        tokens = TokensFile(tmp_path / "tokens.toml")
        good = tokens.add("fuzzer", ["deploy", "sync"])
        admin = f"127.0.0.1:{free_port()}"
        server = serve("--tokens-file", str(tokens.path), "--admin-listen", admin, *astro)
        described = f"http://{admin}"
        server.headers = {"Authorization": good}
        flags = ["--header", f"Authorization: {good if caller == 'a token' else 'no good'}"]
        flags += ["--exclude-path-regex", "^/(readyz|metrics|openapi.json)$"]  # not on this listener
    version = server.deploy({"dag.py": b"pass\n"})["version"]
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.replace("{version}", version))
    command = [
        *(schemathesis, "--config-file", str(config), "run", f"{described}/openapi.json", "--url", server.url),
        *("--max-examples", "25", "--seed", "1", "--suppress-health-check", "all", *flags),
    ]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Tested: " in done.stdout
    assert [line for line in server.logged() if line["level"] in {"error", "critical"}] == []
