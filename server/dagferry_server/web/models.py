"""The JSON of pages that no endpoint of the API has."""

from pydantic import Field

from dagferry_core.limits import UploadLimit
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.http.answer import Answer


class LimitsAnswer(Answer):
    """The limits of a deployment that are in effect."""

    upload_bytes: int = Field(description="How many bytes a compressed upload may have.")
    upload_rule: str = Field(description="What sets this limit.")
    upload_hint: str = Field(description="How to raise it.")
    max_expanded_bytes: int = Field(description="How many bytes it may expand to.")
    max_files: int = Field(description="How many files and folders it may have.")
    exclude: list[str] = Field(description="What is excluded from it.")
    gate: str = Field(description="What happens to DAG files that do not parse: off, warn or enforce.")
    airflow_python: str | None = Field(description="The Python that must be able to parse them; null: any.")
    max_removed_percent: int = Field(description="How many percent of the DAG files a deploy may remove.")
    keep_deploys: int = Field(description="The contents of so many newest deploys are always kept.")
    keep_days: int = Field(description="Those of younger deploys are kept too.")
    converge_seconds: int = Field(description="How many seconds a pod may take until it has a deploy live.")


class RefusalAnswer(Answer):
    """A deploy that was refused."""

    time: int = Field(description="When, in seconds since the epoch (UTC).")
    actor: str = Field(description="Whose deploy it was.")
    code: str = Field(description="The error's name.")
    message: str = Field(description="What was wrong.")
    hint: str = Field(description="What to do next.")


class RefusalsAnswer(Answer):
    """The last deploys to a deployment that this server refused."""

    since: int = Field(description="When the server started: older ones are not known. In seconds since the epoch.")
    refusals: list[RefusalAnswer] = Field(description="Newest first; each of several servers has its own.")


def limits_answer(deployment: Deployment, upload: UploadLimit) -> LimitsAnswer:
    """Return the limits of a deployment; ``upload`` is that of its uploads."""
    settings = deployment.settings
    return LimitsAnswer(
        upload_bytes=upload.bytes,
        upload_rule=upload.rule,
        upload_hint=upload.hint,
        max_expanded_bytes=settings.max_expanded_bytes,
        max_files=settings.max_files,
        exclude=list(settings.exclude),
        gate=settings.gate_level,
        airflow_python=settings.airflow_python,
        max_removed_percent=settings.max_removed_percent,
        keep_deploys=settings.keep_deploys,
        keep_days=settings.keep_days,
        converge_seconds=settings.converge_seconds,
    )
