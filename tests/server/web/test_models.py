"""The JSON of pages without an endpoint of the API: limits in effect, refused deploys."""

from dagferry_server.web.models import LimitsAnswer, RefusalsAnswer
from harness import pack


async def test_limits_are_those_of_the_deployment(start, tmp_path) -> None:
    (tmp_path / "deployments.toml").write_text('deployments = [ { name = "prod", tiers = 2, max-files = 10 } ]')
    server = await start("--deployments-file", str(tmp_path / "deployments.toml"), web=True)
    found = LimitsAnswer.model_validate((await server.get("/-/ui/deployments/prod/json/limits")).json)
    assert (found.upload_bytes, found.max_files, found.gate) == (30 << 20, 10, "warn")


async def test_refusals_say_since_when(start) -> None:
    server = await start("--gate", "enforce", "--airflow-python", "3.11", web=True)
    await server.upload(pack({"a.py": b"from airflow import DAG\ndef f(:\n"}))
    found = RefusalsAnswer.model_validate((await server.get("/-/ui/deployments/default/json/refusals")).json)
    assert found.since == server.state.refusals.since
    assert [refusal.code for refusal in found.refusals] == ["gate_refused"]
