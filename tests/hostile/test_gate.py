"""Sources that try to pass the gate, to break it, or to use up the server; each is one upload to a real server."""

import json

import pytest

from harness import Server, pack

DAG = "# airflow dag\n"
BAD = DAG + "x = (\n"


@pytest.fixture
def server(serve) -> Server:
    return serve("--airflow-python", "3.11", "--airflow", "3")


def refused(server: Server, files: dict[str, str | bytes]) -> dict[str, int]:
    """Upload ``files``, with one good DAG; return how many problems each path has, as the answer lists them."""
    data = {path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()}
    status, body = server.request("/default/dags/upload", pack({"good.py": DAG.encode(), **data}))
    answer = json.loads(body)
    if status == 200:
        return {}
    assert (status, answer["code"]) == (422, "gate_refused"), answer
    found: dict[str, int] = {}
    for problem in answer["problems"]:
        assert problem["line"] >= 1
        assert problem["column"] >= 1
        assert problem["message"].isprintable()
        found[problem["path"]] = found.get(problem["path"], 0) + 1
    return found


REFUSED = {
    "a null byte": DAG + "x = '\0'\n",
    "invalid utf-8": b"# airflow dag\nx = '\xff'\n",
    "a cookie that lies": b"# -*- coding: utf-16 -*-\n# airflow dag\n",
    "a cookie of no codec": b"# -*- coding: no-such-codec -*-\n# airflow dag\n",
    "a BOM and another cookie": b"\xef\xbb\xbf# -*- coding: latin-1 -*-\n# airflow dag\n",
    "deep nesting": DAG + "[" * 200_000 + "]" * 200_000 + "\n",
    "a million brackets": DAG + "[" * 1_000_000,
    "deep indentation": DAG + "".join(" " * depth + "if x:\n" for depth in range(2000)) + " " * 2000 + "y = (\n",
    "more than is checked": DAG + "#" * 11_000_000,
    "an error that noqa hides": DAG + "# ruff: noqa\nx = (  # noqa\n",
    "a return outside": DAG + "return 1  # noqa: F706\n",
    "syntax of a later Python": DAG + "type X = int\n",
    "a million errors": DAG + "$ x $\n" * 100_000,
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_python_could_not_read_is_refused_and_the_server_lives(server, what) -> None:
    assert list(refused(server, {"evil.py": REFUSED[what]})) == ["evil.py"]
    assert server.deploy({"good.py": DAG.encode()})["sequence"] == 1


ACCEPTED = {
    "a BOM": b"\xef\xbb\xbf# airflow dag\nx = 1\n",
    "latin-1 with its cookie": b"# -*- coding: latin-1 -*-\n# airflow dag\nx = '\xff'\n",
    "carriage returns": b"# airflow dag\rx = 1\r",
    "ten megabytes": DAG + "x = 1  # a comment\n" * 520_000,
    "nothing but the words": b"#airflowdag",
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_python_can_read_is_accepted(server, what) -> None:
    assert refused(server, {"plain.py": ACCEPTED[what]}) == {}


def test_nothing_in_an_upload_configures_the_check(server) -> None:
    names = ["--exit-zero.py", "-.py", "@list.py", "*.py", "a b\u2028c.py", "{x}.py", "%s.py", "\u202egpj.py"]
    settings = {
        "ruff.toml": "exclude = ['*']\n[lint]\nignore = ['ALL']\n",
        ".ruff.toml": "exclude = ['*']\n",
        "pyproject.toml": "[tool.ruff]\nexclude = ['*']\n",
        ".gitignore": "*\n",
        ".ruffignore": "*\n",
    }
    assert sorted(refused(server, {**dict.fromkeys(names, BAD), **settings})) == sorted(names)


def test_no_text_of_a_source_gets_into_the_log(server) -> None:
    refused(server, {"evil.py": DAG + "password_hunter2 = (\n"})
    assert "hunter2" not in server.log.read_text()


def test_patterns_that_never_end_do_not_hold_up_the_server(server) -> None:
    evil = "(a*)*b\n" * 900 + "a" * 900 + "\n"
    refused(server, {".airflowignore": evil, **{f"{'a' * 200}{number}.py": DAG for number in range(300)}})
    assert server.get("/healthz")[0] == 200


def test_many_large_airflowignores_are_not_read(server) -> None:
    assert refused(server, {f"{number}/.airflowignore": "#" * 70_000 for number in range(70)}) == {".airflowignore": 1}


def test_many_crashing_files_end_within_the_time_of_a_check(server) -> None:
    deep = {f"{number}.py": f"{DAG}{'-' * 200_000}{number}\n" for number in range(6)}
    assert len(refused(server, {**deep, "bad.py": BAD})) == 7
