"""The last refused deploys are kept, bounded, and only what people need of them."""

from dagferry_server.errors import GateRefused
from dagferry_server.http.refusals import MAX_MESSAGE_CHARACTERS, MAX_REFUSALS, Refusals
from harness import pack

BROKEN = {"etl.py": b"from airflow import DAG\ndef f(:\n"}


def test_the_newest_are_kept_newest_first() -> None:
    refusals = Refusals()
    for number in range(MAX_REFUSALS + 5):
        refusals.add("prod", f"ann{number}", GateRefused("x" * 3000), now=number)
    kept = refusals.of("prod")
    assert [refusal.time for refusal in kept] == list(range(MAX_REFUSALS + 4, 4, -1))
    assert {len(refusal.message) for refusal in kept} == {MAX_MESSAGE_CHARACTERS}
    assert refusals.of("other") == ()


async def test_a_deploy_that_the_gate_refuses_is_kept(start) -> None:
    server = await start("--gate", "enforce", "--airflow-python", "3.11")
    answer = await server.upload(pack(BROKEN))
    assert answer.status == 422
    [kept] = server.state.refusals.of("default")
    assert (kept.actor, kept.code, kept.message) == ("anonymous", answer.json["code"], answer.json["message"])


async def test_a_dry_run_and_an_invalid_request_are_not(start) -> None:
    server = await start("--gate", "enforce", "--airflow-python", "3.11")
    assert (await server.upload(pack(BROKEN), "/default/dags/upload?dry_run=1")).status == 422
    answer = await server.call("POST", "/default/dags/upload", data=pack(BROKEN), headers={"If-Match": '"x"'})
    assert answer.status == 412
    assert server.state.refusals.of("default") == ()


async def test_they_end_with_their_deployment(start) -> None:
    server = await start("--gate", "enforce", "--airflow-python", "3.11")
    assert (await server.call("POST", "/-/deployments/preview")).status == 200
    assert (await server.upload(pack(BROKEN), "/preview/dags/upload")).status == 422
    assert server.state.refusals.of("preview")
    assert (await server.call("DELETE", "/-/deployments/preview")).status == 200
    assert (await server.call("POST", "/-/deployments/preview")).status == 200
    assert server.state.refusals.of("preview") == ()
