"""When the judge is asked, with what, and what its answer does."""

import asyncio

import pytest

from dagferry_server.deploys import commit as committing
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import Forbidden
from harness import pack
from running import A, B, Running


class Judging:
    """A judge that takes note of what it is asked."""

    def __init__(self, server: Running) -> None:
        self.asked: list[tuple[dict[str, bytes], dict[str, bytes] | None, str]] = []
        self.warnings: list[str] = []
        self.refuses = False
        server.service.deployer._committer._judge = self

    def __call__(self, deployment, tree: Tree, old: Tree | None, request) -> list[str]:
        self.asked.append((contents(tree), contents(old) if old else None, request.kind))
        assert deployment.name == "default"
        if self.refuses:
            raise Forbidden("It does not parse.", details={"problems": ["etl.py"]})
        return self.warnings


def contents(tree: Tree) -> dict[str, bytes]:
    return {path: tree.open_content(entry)(0, entry.size + 9) for path, entry in tree.manifest.files.items()}


async def test_it_sees_the_new_tree_and_the_current_one_for_every_kind_of_deploy(server) -> None:
    judging = Judging(server)
    first = await server.deploy(A)
    await server.deploy(B)
    await server.rollback(first["version"])
    assert judging.asked == [(A, None, "upload"), (B, A, "upload"), (A, B, "rollback")]


async def test_its_warnings_are_in_answer_and_history_of_a_dry_run_only_in_the_answer(server) -> None:
    judging = Judging(server)
    judging.warnings = ["etl.py: removed in Airflow 3."]
    dry = (await server.upload(pack(A), "/default/dags/upload?dry_run=1")).json
    told = await server.deploy(A)
    assert dry["warnings"] == told["warnings"] == judging.warnings
    entry = (await server.get(f"/default/dags/deploys/{told['version']}")).json
    assert entry["details"]["warnings"] == judging.warnings


@pytest.mark.parametrize("query", ["", "?dry_run=1"])
async def test_what_it_refuses_is_not_stored_and_the_answer_has_its_details(server, query) -> None:
    judging = Judging(server)
    await server.deploy(A)
    judging.refuses = True
    refused = await server.upload(pack(B), "/default/dags/upload" + query)
    assert (refused.status, refused.json["code"], refused.json["problems"]) == (403, "forbidden", ["etl.py"])
    assert len(await asyncio.to_thread(server.service.store.bundles, "default")) == 1
    assert (await server.get("/default/dags/current")).json["sequence"] == 1


async def test_unchanged_content_and_a_mismatch_are_found_before_it_is_asked(server) -> None:
    judging = Judging(server)
    await server.deploy(A)
    judging.refuses = True
    assert (await server.deploy(A))["unchanged"] is True
    answer = await server.call("POST", "/default/dags/upload", data=pack(B), headers={"If-Match": '"x"'})
    assert answer.json["code"] == "version_mismatch"
    assert len(judging.asked) == 1


async def test_it_is_asked_again_about_the_winner_of_a_race(server, monkeypatch) -> None:
    judging = Judging(server)
    monkeypatch.setattr(committing, "RACE_PAUSE_SECONDS", 0)
    real, tried = committing.create_entry, []

    def beaten_once(*arguments) -> bool:
        tried.append(arguments)
        return len(tried) > 1 and real(*arguments)

    monkeypatch.setattr(committing, "create_entry", beaten_once)
    await server.deploy(A)
    assert judging.asked == [(A, None, "upload")] * 2


async def test_the_lock_is_held_while_it_judges_so_a_closed_deployment_stays_closed(server, tmp_path) -> None:
    deployment = server.service.deployments["default"]
    settings = deployment.settings

    class Closing(Judging):
        def __call__(self, deployment, tree, old, request) -> list[str]:
            assert deployment.lock.locked()
            return super().__call__(deployment, tree, old, request)

    judging = Closing(server)
    await server.deploy(A)
    async with deployment.lock:
        uploading = asyncio.create_task(server.upload(pack(B)))
        await asyncio.sleep(0.1)
        deployment.configure(settings.model_copy(update={"disabled": "moving"}))
    answer = await uploading
    assert (answer.status, answer.json["code"]) == (409, "deployment_disabled")
    assert len(judging.asked) == 1
