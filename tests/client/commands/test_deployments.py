"""``dagferry deployments`` lists what the caller may see."""

from recorded_answers import LISTED as PROD

EMPTY = {
    **PROD,
    "name": "preview-7",
    "state": "EMPTY",
    "version": "",
    "deployed_at": None,
    "created_by": "token:ci",
    "scopes": ["read"],
    "frozen": {"reason": "audit\x1b[31m", "until": 4102444800, "actor": "ann"},
}


def test_each_deployment_has_a_row_with_its_state_and_why_it_is_closed(at, server) -> None:
    disabled = {**PROD, "name": "old", "disabled": "moved away"}
    server.answer("GET /-/deployments", {"deployments": [PROD, EMPTY, disabled]})
    done = at("deployments")
    assert done.code == 0
    head, prod, preview, old = done.out.splitlines()
    assert head.split() == ["DEPLOYMENT", "STATE", "VERSION", "DEPLOYED", "SCOPES", "NOTE"]
    assert prod.split()[:3] == ["prod", "HEALTHY", "20261120T064501Z-000042"]
    assert prod.endswith("days ago  deploy read")
    assert preview.split()[:4] == ["preview-7", "EMPTY", "-", "-"]
    assert preview.endswith("Frozen by ann until 2100-01-01 00:00:00 UTC: audit?[31m")
    assert old.endswith("Disabled: moved away")


def test_json_has_what_the_server_says(at, server) -> None:
    server.answer("GET /-/deployments", {"deployments": [PROD, EMPTY]})
    assert at("deployments", "--json").json == {"deployments": [PROD, EMPTY]}


def test_no_deployment_is_said_on_stderr_and_no_error(at, server) -> None:
    server.answer("GET /-/deployments", {"deployments": []})
    done = at("deployments")
    assert (done.code, done.out) == (0, "")
    assert "no deployment that you may see" in done.err
