"""The import check in the status: who checks, what is being checked, and what was refused."""

from pydantic import Field

from dagferry_server.deploys.checker_versions import Versions, mismatch
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.parsed import Parsed
from dagferry_server.http.answer import Answer


class CheckerAnswer(Answer):
    """A checker."""

    instance: str = Field(description="Its name.")
    airflow: str = Field(description="The version of Airflow that it imports DAGs with.")
    python: str = Field(description="The version of Python that it imports DAGs with.")
    variables: str = Field(description="stub or env: how it reads Variables and Connections.")
    warming: bool = Field(description="Whether it still checks what is live, so that no deploy waits for it.")
    connected: bool = Field(description="Whether it was heard within the last 30 seconds.")
    seen: int = Field(description="When it was last heard, in seconds since the epoch (UTC).")


class CheckingAnswer(Answer):
    """A content that waits for a checker."""

    id: str = Field(description="The id of the candidate.")
    base: str = Field(description="The version that was live when it came; empty: none.")
    digest: str = Field(description="The content: sha256 over the manifest.")
    actor: str = Field(description="Who deploys it.")
    created: int = Field(description="When it came, in seconds since the epoch (UTC).")


class ProblemAnswer(Answer):
    """Why a DAG file cannot be imported."""

    path: str = Field(description="The file.")
    line: int = Field(description="The line; 0 if there is none.")
    kind: str = Field(description="The kind of problem, such as import or cycle.")
    message: str = Field(description="What is wrong.")


class RefusedCandidateAnswer(Answer):
    """A deploy that was refused because of its import check."""

    actor: str = Field(description="Whose deploy it was.")
    created: int = Field(description="When, in seconds since the epoch (UTC).")
    problems: list[ProblemAnswer] = Field(description="The first new problems.")


class ImportCheckAnswer(Answer):
    """The import check of a deployment."""

    policy: str = Field(description="What becomes of DAG files that cannot be imported: off, warn or block.")
    away: str = Field(description="What becomes of deploys while no checker is connected, under block: open or closed.")
    checkers: list[CheckerAnswer] = Field(description="The checkers of the last hour, by name.")
    checking: list[CheckingAnswer] = Field(description="What waits for a checker, first in first out.")
    refused: list[RefusedCandidateAnswer] = Field(
        description="The last deploys that this server refused because of it, newest first."
    )
    mismatch: str = Field(
        description="In which version a checker differs from the dag processor, in a sentence; empty: in none."
    )


def import_check_answer(deployment: Deployment, parsed: Parsed | None, now: float) -> ImportCheckAnswer | None:
    """Return the import check of a deployment as it is sent; ``now`` is in seconds since the epoch.

    ``parsed`` is what dag processors say: with which versions they import what is checked here.
    """
    checking, settings = deployment.checking, deployment.settings
    policy, known = checking.policy(settings.import_check), checking.checkers.known
    if policy == "off" and not known:
        return None
    heard = {checker.greeting.instance for checker in checking.checkers.heard}
    versions = [
        (each.greeting.instance, Versions(each.greeting.airflow, each.greeting.python))
        for each in checking.checkers.heard
    ]
    return ImportCheckAnswer(
        policy=policy,
        away=settings.import_check_away,
        checkers=[
            CheckerAnswer(
                instance=each.greeting.instance,
                airflow=each.greeting.airflow,
                python=each.greeting.python,
                variables=each.greeting.variables,
                warming=each.greeting.warming,
                connected=each.greeting.instance in heard,
                seen=int(now - checking.checkers.silent_seconds(each)),
            )
            for each in known
        ],
        checking=[
            CheckingAnswer(id=each.id, base=each.base, digest=each.digest, actor=each.actor, created=each.created)
            for each in checking.notes.open
        ],
        refused=[
            RefusedCandidateAnswer(
                actor=each.actor,
                created=each.created,
                problems=[
                    ProblemAnswer(path=one.path, line=one.line, kind=one.kind, message=one.message)
                    for one in each.problems
                ],
            )
            for each in checking.refused
        ],
        mismatch=mismatch(versions, parsed and Versions(parsed.airflow, parsed.python)),
    )
