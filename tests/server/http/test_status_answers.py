"""The answers about a fleet's status, which many may wait for at once."""

import json

from dagferry_server.fleet.sidecars import Report
from dagferry_server.http.status_answers import StatusAnswers
from running import A


async def test_an_answer_is_written_once_until_the_status_or_the_settings_change(start) -> None:
    server = await start("--deployments", "one,two")
    answers, (one, two) = StatusAnswers(), server.service.deployments.values()
    for deployment in (one, two):
        now = deployment.fleet.clock()
        deployment.fleet.clock = lambda now=now: now
    empty = answers.of(one, lambda: 0.0)
    assert answers.of(one, lambda: 9.0) is empty
    assert json.loads(answers.of(two, lambda: 0.0).body)["deployment"] == "two"
    await server.deploy(A, "one")
    deployed = answers.of(one, lambda: 0.0)
    assert (json.loads(deployed.body)["sequence"], deployed.tag != empty.tag) == (1, True)
    one.configure(one.settings.model_copy(update={"disabled": "moving"}))
    disabled = answers.of(one, lambda: 0.0)
    assert (json.loads(disabled.body)["disabled"], disabled.tag != deployed.tag) == ("moving", True)


async def test_a_tag_is_of_the_news_and_not_of_the_ages(server) -> None:
    await server.deploy(A)
    (deployment,) = server.service.deployments.values()
    now = [deployment.fleet.clock()]
    deployment.fleet.clock = lambda: now[0]
    with deployment.fleet.visit(Report("pod-0", "worker", "", "", deregister=False)):
        pass
    answers = StatusAnswers()
    first = answers.of(deployment, lambda: 1000.0)
    now[0] += 3
    second = answers.of(deployment, lambda: 1003.0)
    shown = [json.loads(written.body)["sidecars"][0] for written in (first, second)]
    assert [(pod["seen"], pod["lag_seconds"]) for pod in shown] == [(1000, 0), (1000, 3)]
    assert second.tag == first.tag
