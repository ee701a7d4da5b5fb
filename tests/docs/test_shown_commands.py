"""Commands that the docs show end with an error when they fail, and act where they should."""

import re
from pathlib import Path

import pytest

from errortable import ALL_ERRORS
from pages import HOME, files_of

PAGES = [
    *(HOME / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "scripts/demo.py")),
    *sorted((HOME / "docs").rglob("*.md")),
    *files_of("deploy"),
]
CURL = re.compile(r"""\bcurl +(?=[-"'$h{])[^\n|`]*""")
KUBERNETES = re.compile(r"\b(?:kubectl|helm) +(?!get --raw|create namespace|repo add)[a-z][^\n|`]*")


def commands(pattern: re.Pattern[str], text: str) -> list[str]:
    """What ``pattern`` finds in ``text``, each command in one line."""
    return pattern.findall(re.sub(r"\\\n[ #]*", "", text))


def test_the_patterns_find_commands() -> None:
    shown = "a\n#  curl -sS -F a=@b \\\n#    URL | jq\n`curl $URL` with curl 7.76 and curl … | x"
    assert commands(CURL, shown) == ["curl -sS -F a=@b URL ", "curl $URL"]
    found = [path.name for path in PAGES if commands(CURL, path.read_text())]
    assert {"README.md", "deploy-from-ci.md", "protocol.md", "errors.md", "compose.yaml", "demo.py"} <= set(found)
    found = [path.name for path in PAGES if commands(KUBERNETES, path.read_text())]
    assert {"sidecar.yaml", "kustomization.yaml", "server.yaml"} <= set(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(HOME)))
def test_a_refused_deploy_ends_curl_with_an_error(path: Path) -> None:
    for command in commands(CURL, path.read_text()):
        assert "--fail-with-body" in command, command


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.code)
def test_so_does_what_a_hint_names(error) -> None:
    for command in commands(CURL, error.default_hint):
        assert "--fail-with-body" in command, command


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(HOME)))
def test_what_is_done_in_a_cluster_is_done_in_airflow_s_namespace(path: Path) -> None:
    for command in commands(KUBERNETES, path.read_text()):
        if len(command.split()) == 2:
            continue  # the name of a command in a sentence
        # Helm's notes name the namespace of the release.
        assert " -n airflow " in command.replace("{{ .Release.Namespace }}", "airflow") + " ", command
