"""S3, and the token for the server, for the function in AWS Lambda.

Run by tests (tests/deploy/bucket) with S3 and Secrets Manager of moto, and with S3 of versitygw. The request to AWS STS
is only compared with boto3's description of it. It was not run in AWS itself.
"""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from deployer import DeployFailed, Listed, ObjectChanged

OPTIONS = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 4}, max_pool_connections=32)
"""How long a request may be silent (seconds), and how often it is sent."""
OIDC_AUDIENCE = "dagferry"
TOKEN_SECONDS = 900
"""How long a token of AWS is valid: longer than a run."""
_GONE = {"NoSuchKey", "PreconditionFailed", "404", "412"}


class S3Bucket:
    """The objects of ``bucket`` whose keys begin with ``prefix``."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.url = f"s3://{bucket}/{prefix}"
        self._bucket = bucket
        self._prefix = prefix
        self._s3: Any = boto3.client("s3", config=OPTIONS)

    def list(self, most: int) -> Mapping[str, Listed]:
        """Return the objects by their names after the prefix. Deleted objects of a versioned bucket are not listed."""
        found: dict[str, Listed] = {}
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            for one in page.get("Contents", ()):
                found[one["Key"][len(self._prefix) :]] = Listed(one["ETag"], one["Size"])
            if len(found) > most:
                break
        return found

    def read(self, name: str, listed: Listed) -> bytes:
        """Return the content of the object with the ETag that was listed."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name, IfMatch=listed.tag)
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                raise ObjectChanged(name) from error
            raise DeployFailed(f"{self.url}{name} cannot be read: {error}") from error
        with answer["Body"] as body:
            if answer["ETag"] != listed.tag or answer["ContentLength"] != listed.size:
                raise ObjectChanged(name)
            return bytes(body.read())


def token() -> str:
    """Return the token for the server: from the environment, from Secrets Manager, or a JWT for this function's role.

    The secret that ``DAGFERRY_TOKEN_SECRET`` names by its ARN holds nothing but the token.
    """
    if given := os.environ.get("DAGFERRY_TOKEN"):
        return given
    if secret := os.environ.get("DAGFERRY_TOKEN_SECRET"):
        found = boto3.client("secretsmanager", config=OPTIONS).get_secret_value(SecretId=secret)
        return str(found["SecretString"]).strip()
    sts: Any = boto3.client("sts", config=OPTIONS)
    answer = sts.get_web_identity_token(
        Audience=[OIDC_AUDIENCE], SigningAlgorithm="RS256", DurationSeconds=TOKEN_SECONDS
    )
    return str(answer["WebIdentityToken"])
