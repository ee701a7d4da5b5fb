"""The answers about the current deploy, which many ask for at once."""

import json

from dagferry_server.http.current_answers import CurrentAnswers
from running import A, B


async def test_an_answer_is_written_once_until_there_is_another_deploy(start) -> None:
    server = await start("--deployments", "one,two")
    answers, (one, two) = CurrentAnswers(), server.service.deployments.values()
    empty = answers.of(one)
    assert json.loads(empty) == {**json.loads(answers.of(two)), "log_id": one.log_id}
    for sequence, files in enumerate((A, B), 1):
        await server.deploy(files, "one")
        answer = answers.of(one)
        assert json.loads(answer)["sequence"] == sequence
        assert answers.of(one) is answer
    assert json.loads(answers.of(two))["sequence"] == 0


async def test_an_answer_names_the_log_as_soon_as_it_is_known(server) -> None:
    answers, deployment = CurrentAnswers(), server.service.deployments["default"]
    known = json.loads(answers.of(deployment))
    deployment.log_id = "another"
    assert json.loads(answers.of(deployment)) == {**known, "log_id": "another"}
