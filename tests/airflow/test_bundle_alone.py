"""The DAG bundle by itself, in Airflow's environment: what it asks for, and what it raises where it cannot go on."""

import signal

import pytest

from bundle_runner import A, B
from credentials import TokensFile
from dagferry_airflow.live import locked
from dagferry_follow.volume import in_use
from dagferry_follow.volume.lookup import trees_of
from harness import free_port, pack
from issuer import make_certificate
from rewriting import rewrite

pytestmark = pytest.mark.airflow


def test_with_nothing_on_the_disk_what_goes_wrong_is_an_exception_of_airflows_that_names_the_setting(
    python, serve, tmp_path
) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    server = serve("--tokens-file", str(tokens.path))
    (tmp_path / "wrong").write_text("dgf_wrong")
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles/volume").write_text("in the way")
    cases = {
        "away": {"server": f"http://127.0.0.1:{free_port()}"},
        "URL": {"server": "nohttp"},
        "scheme": {"server": "ftp://x"},
        "token": {"server": server.url, "token_file": str(tmp_path / "wrong")},
        "no token": {"server": server.url, "token_file": str(tmp_path / "none")},
        "CA": {"server": server.url, "ca_file": str(tmp_path / "none")},
        "plain": {"server": "http://dagferry.example.com", "token_file": str(tmp_path / "wrong")},
        "volume": {"server": serve(data="open").url},
    }
    code = f"""
cases = {cases!r}
say({{name: raised(made(name=name, **kwargs).initialize) for name, kwargs in cases.items()}})
"""
    said = python(code)
    assert {kind for kind, _ in said.values()} == {"AirflowException"}
    for name, (_, text) in said.items():
        assert ("token_file, ca_file, allow_plain_http" in text) == (name != "volume")
        assert "--" not in text
        assert "sidecar" not in text
    assert "server is 'nohttp': a URL such as" in said["URL"][1]
    assert "none cannot be used: No such file" in said["CA"][1]


def test_as_long_as_nothing_is_deployed_the_bundle_is_not_initialized_so_no_dag_is_gone(python, serve) -> None:
    server = serve()
    code = f"""
bundle = made(name="early", server={server.url!r})
kind, text = raised(bundle.initialize)
deploy()
for _ in range(600):  # as Airflow's loop does; a pause follows what failed
    if not raised(bundle.initialize)[0]:
        break
    time.sleep(0.1)
say([kind, text, sorted(os.listdir(bundle.path))])
""".replace("deploy()", f"urllib.request.urlopen({server.url + '/upload'!r}, {pack(A)!r}).read()")
    kind, text, files = python("import os, time, urllib.request\n" + code)
    assert kind == "AirflowException"
    assert text.startswith("Nothing is deployed yet, so nothing is published. Deploy to default on http://127.0.0.1")
    assert files == sorted({path.split("/")[0] for path in A})


def test_a_task_is_rescheduled_only_where_waiting_helps(python, serve, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = serve("--tls-cert", certificate, "--tls-key", key)
    version = server.deploy(A)["version"]
    cases = {
        "away": {"server": f"http://127.0.0.1:{free_port()}"},
        "URL": {"server": "http://"},
        "CA": {"server": server.url, "ca_file": str(tmp_path / "none")},
        "not trusted": {"server": server.url},
        "unknown": {"server": server.url, "ca_file": certificate, "version": "20260101T000000Z-000099"},
    }
    code = f"""
pin.note_task()
cases = {cases!r}
versions = {{name: kwargs.pop("version", {version!r}) for name, kwargs in cases.items()}}
say({{name: raised(made(versions[name], name, **kwargs).initialize)[0] for name, kwargs in cases.items()}})
"""
    expected = {**dict.fromkeys(cases, "AirflowException"), "away": "AirflowRescheduleException"}
    assert python(code) == expected


def test_a_token_a_ca_and_a_link_for_people(python, serve, tmp_path) -> None:
    certificate, key = make_certificate(tmp_path)
    tokens = TokensFile(tmp_path / "tokens.toml")
    (tmp_path / "token").write_text(tokens.add("airflow", ["sync"]) + "\n")
    secret = tokens.add("ci", ["deploy"])
    server = serve("--tokens-file", str(tokens.path), "--tls-cert", certificate, "--tls-key", key)
    server.headers = {"Authorization": f"Bearer {secret}"}
    older, newest = (server.deploy(files)["version"] for files in (A, B))
    kwargs = {
        "server": server.url, "token_file": str(tmp_path / "token"), "ca_file": certificate,
        "view_url_template": "https://git.example.com/{version}",
    }  # fmt: skip
    code = f"""
seen = []
for version in (None, {older!r}):
    bundle = made(version, **{kwargs!r})
    bundle.initialize()
    seen.append((bundle.get_current_version().version, (bundle.path / "shop.py").read_text()))
say([seen, bundle.view_url_template(), bundle.view_url({older!r})])
"""
    assert python(code) == [
        [[newest, "rate = 2\n"], [older, "rate = 1\n"]],
        "https://git.example.com/{version}",
        f"https://git.example.com/{older}",
    ]


def test_a_server_that_hangs_does_not_stop_the_loop_that_refreshes(python, serve) -> None:
    server = serve()
    server.deploy(A)
    code = f"""
bundle = made(server={server.url!r})
bundle.initialize()
bundle.refresh()
say("the server may hang now")
sys.stdin.readline()
asked = []
ask = fetch.Server.current
fetch.Server.current = lambda *args: asked.append(1) or ask(*args)
for _ in range(100):
    bundle.refresh()
say([len(asked), (bundle.path / "shop.py").read_text()])
"""
    try:
        assert python(code, lambda: server.process.send_signal(signal.SIGSTOP)) == [1, "rate = 1\n"]
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_dag_processor_that_starts_while_the_server_is_away_has_what_is_on_the_disk(python, serve) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    code = f"""
bundle = made(server={server.url!r})
bundle.initialize()
bundle.refresh()  # Airflow lists no files of a bundle that has not been refreshed
say(bundle.get_current_version().version)
"""
    assert python(code) == version
    server.stop()
    assert python(code) == version


def test_tasks_ask_a_server_that_hangs_at_once_not_one_after_the_other(python, serve, tmp_path) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    server.process.send_signal(signal.SIGSTOP)
    try:
        with locked(str(tmp_path / "bundles/prod/live"), 0):
            code = f"""
pin.note_task()
fetch.SILENCE_SECONDS = 0.5
say(raised(made({version!r}, server={server.url!r}).initialize)[0])
"""
            assert python(code) == "AirflowRescheduleException"
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_rewritten_log_changes_no_dag_and_no_run_gets_a_version_of_it(python, serve) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    code = f"""
bundle = made(server={server.url!r})
bundle.initialize()
bundle.refresh()
pin.note_task()
newest = NEWEST
run = raised(made(newest, server={server.url!r}).initialize) if newest else ["", ""]
say([bundle.get_current_version().version, (bundle.path / "shop.py").read_text(), *run])
"""
    files = A["shop.py"].decode()
    assert python(code.replace("NEWEST", "None")) == [version, files, "", ""]
    server.stop()
    rewrite(server.data, 1, description="It was not me")
    server = serve(port=server.port)
    newest = server.deploy(B)["version"]
    *live, kind, text = python(code.replace("NEWEST", repr(newest)))
    assert live == [version, files]
    assert kind == "AirflowException"
    assert text.startswith("Entry 1 of the deploy log was rewritten, or one before it: its sha256 was ")
    assert "dagferry-server verify" in text


def test_a_task_whose_run_has_no_version_holds_the_tree_it_runs_on_and_says_which_one_that_is(
    python, serve, tmp_path
) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    live = str(tmp_path / "bundles/prod/live")
    found = []
    code = f"""
import logging
lines = []
logging.getLogger("dagferry_airflow.bundle").addHandler(logging.Handler())
logging.getLogger("dagferry_airflow.bundle").handlers[0].emit = lambda record: lines.append(record.getMessage())
logging.getLogger("dagferry_airflow.bundle").setLevel("INFO")
pin.note_task()
bundle = made(server={server.url!r})
bundle.initialize()
say("it runs")
sys.stdin.readline()
say([str(bundle.path), lines])
"""

    def while_it_runs() -> None:
        found.extend(in_use.used(live, trees_of(live, version)))

    path, lines = python(code, while_it_runs)
    assert path.endswith(f"/{version}")
    assert found == trees_of(live, version)
    assert lines == [f"dagferry version={version} chosen=newest bundle=prod"]
    assert in_use.used(live, found) == set()
