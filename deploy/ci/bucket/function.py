"""A function that deploys the dags folder in a bucket whenever something in the bucket changes.

Run by tests (tests/deploy/bucket): ``on_aws`` with events of the shapes that AWS documents, ``on_gcp`` over HTTP by
Google's functions-framework. How to set it up: docs/how-to/deploy-from-a-bucket.md.

    on_aws    AWS Lambda: S3 events, directly, through SQS, or through EventBridge
    on_gcp    Google Cloud Functions and Cloud Run: CloudEvents of Cloud Storage, directly or through Pub/Sub

An event only says that it is time to look: what is deployed is what the bucket has (``deployer``). A failure is raised,
so that the event is delivered again. Settings are variables of the environment:

    DAGFERRY_SERVER, DAGFERRY_DEPLOYMENT    where to deploy, as for dagferry
    DAGFERRY_BUCKET, DAGFERRY_PREFIX        the bucket, and what the names of the DAGs' objects begin with: dags/
    DAGFERRY_TOKEN                          the token, or none for the identity of the function
    DAGFERRY_TOKEN_SECRET                   in AWS: the ARN of the secret that holds the token
    DAGFERRY_SETTLE_SECONDS                 how long the bucket must not change before it is deployed (15)
"""

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deployer import MAX_SETTLE_SECONDS, SETTLE_SECONDS, Deployer, DeployFailed

TEST_EVENT = "s3:TestEvent"
"""What S3 sends when notifications are set up: nothing has changed."""


def on_aws(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Deploy the bucket; the handler of AWS Lambda."""
    changes = list(_s3_changes(event))
    if changes and all(kind == TEST_EVENT for kind, _ in changes):
        return _log({"message": "S3 tested its notifications; nothing has changed."})
    return _deploy(_aws_deployer, {bucket for _, bucket in changes})


def on_gcp(cloud_event: Any) -> None:
    """Deploy the bucket; the handler of Google Cloud, for the signature type cloudevent."""
    data = cloud_event.data
    bucket = None
    if isinstance(data, Mapping):
        bucket = data.get("bucket") or (data.get("message", {}).get("attributes") or {}).get("bucketId")
    _deploy(_gcp_deployer, {bucket} if bucket else set())


def _deploy(deployer: Callable[[], Deployer], buckets: set[str]) -> dict[str, Any]:
    wanted = _setting("DAGFERRY_BUCKET")
    if others := sorted(buckets - {wanted}):
        raise DeployFailed(
            f"An event is of the bucket {others[0]!r}, but DAGFERRY_BUCKET is {wanted!r}. Change either."
        )
    done = deployer().run()
    return _log({"message": "unchanged" if done["unchanged"] else "deployed", **done})


def _s3_changes(event: object) -> Iterator[tuple[str, str]]:
    """Yield kind and bucket of each change in an event; of another event, such as a schedule's, nothing."""
    if not isinstance(event, Mapping):
        return
    if event.get("Event") == TEST_EVENT:
        yield TEST_EVENT, str(event.get("Bucket"))
    if event.get("source") == "aws.s3":
        yield str(event.get("detail-type")), str(event["detail"]["bucket"]["name"])
    for record in event.get("Records", ()):
        if record.get("eventSource") == "aws:sqs":
            yield from _s3_changes(json.loads(record["body"]))
        elif record.get("eventSource") == "aws:s3":
            yield str(record.get("eventName")), str(record["s3"]["bucket"]["name"])


@functools.lru_cache(1)
def _aws_deployer() -> Deployer:
    """Return what the instance of the function keeps between events."""
    import aws  # noqa: PLC0415 - only AWS has boto3

    return Deployer(aws.S3Bucket(_setting("DAGFERRY_BUCKET"), _prefix()), aws.token, _settle_seconds())


@functools.lru_cache(1)
def _gcp_deployer() -> Deployer:
    """Return what the instance of the function keeps between events."""
    import gcp  # noqa: PLC0415 - only Google Cloud has its library

    return Deployer(gcp.GcsBucket(_setting("DAGFERRY_BUCKET"), _prefix()), gcp.token, _settle_seconds())


def _setting(name: str) -> str:
    if not (value := os.environ.get(name, "")):
        raise DeployFailed(f"The variable {name} is not set.")
    return value


def _prefix() -> str:
    """Return the prefix: a folder, because ``dags`` would also be the beginning of ``dags-old/``."""
    prefix = os.environ.get("DAGFERRY_PREFIX", "")
    if prefix.startswith("/") or (prefix and not prefix.endswith("/")):
        raise DeployFailed(f"DAGFERRY_PREFIX is {prefix!r}; it must be empty or a folder, such as dags/.")
    return prefix


def _settle_seconds() -> int:
    text = os.environ.get("DAGFERRY_SETTLE_SECONDS", str(SETTLE_SECONDS))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_SETTLE_SECONDS):
        raise DeployFailed(f"DAGFERRY_SETTLE_SECONDS is {text!r}; it must be 1 to {MAX_SETTLE_SECONDS} seconds.")
    return int(text)


def _log(what: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps({"severity": "INFO", **what}), flush=True)
    return what
