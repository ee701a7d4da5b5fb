"""A preview from its beginning to its end, with real processes: a token, pods that follow, a restart, a second life."""

import json

from credentials import TokensFile
from harness import eventually, pack

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
PREVIEW = "/-/deployments/preview-12"


def answered(server, method: str, path: str) -> dict:
    status, body = server.request(path, method=method)
    assert status == 200, body
    return json.loads(body)


def test_a_preview_is_created_followed_deleted_and_created_again_and_no_pod_goes_back(serve, follow, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("previews", ["admin", "deploy", "sync"], ["preview-*"])
    server = serve("--tokens-file", str(tokens.path))
    server.headers = {"Authorization": secret}
    assert answered(server, "POST", PREVIEW)["created"]
    pod = follow(server, "pod-0", "--deployment", "preview-12", DAGFERRY_TOKEN=secret)
    first = server.deploy(A, "preview-12")
    assert pod.runs(first["version"]).tree() == A
    assert answered(server, "DELETE", PREVIEW)["deleted"]
    eventually("the pod to learn it", lambda: "deployment_not_found" in pod.log.read_text())
    assert pod.tree() == A
    assert answered(server, "POST", PREVIEW)["version"] == ""
    # Nothing is deployed to it now; what is live stays until something is.
    eventually("the pod to learn it", lambda: "sequence_regressed" in pod.log.read_text())
    assert pod.tree() == A
    second = server.deploy(B, "preview-12")
    assert second["sequence"] == first["sequence"] + 1
    assert pod.runs(second["version"]).tree() == B


def test_a_freeze_stops_deploys_and_no_pod(serve, follow) -> None:
    server = serve()
    first = server.deploy(A)
    body = b'{"reason": "the year-end close"}'
    status, _ = server.request("/default/dags/freeze", body, Content_Type="application/json")
    assert status == 200
    status, body = server.request("/default/dags/upload", pack(B))
    refusal = json.loads(body)
    assert (status, refusal["code"]) == (423, "deployment_frozen")
    assert "frozen by anonymous until it is lifted: the year-end close" in refusal["message"]
    pod = follow(server, "pod-0")
    assert pod.runs(first["version"]).tree() == A
    assert server.request("/default/dags/upload?override_freeze=1", pack(B))[0] == 200
    assert server.request("/default/dags/freeze", method="DELETE")[0] == 200
    assert pod.runs(server.deploy(A)["version"]).tree() == A
