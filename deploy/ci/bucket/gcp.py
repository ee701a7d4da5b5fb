"""Google Cloud Storage, and the token for the server, for the function in Google Cloud.

Run by tests (tests/deploy/bucket) with fake-gcs-server, and with a metadata server of the test's own. It was not run
in Google Cloud itself.
"""

import os
from collections.abc import Mapping

import google.auth.transport.requests
from google.api_core.exceptions import GoogleAPIError, NotFound
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import id_token

from deployer import DeployFailed, Listed, ObjectChanged

OIDC_AUDIENCE = "dagferry"
REQUEST_SECONDS = 20
"""How long a request may be silent."""
REPEAT_SECONDS = 60.0
"""How long a request is repeated."""
_FIELDS = "items(name,generation,size,contentEncoding),nextPageToken"


class GcsBucket:
    """The objects of ``bucket`` whose names begin with ``prefix``."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.url = f"gs://{bucket}/{prefix}"
        self._prefix = prefix
        self._retry = DEFAULT_RETRY.with_timeout(REPEAT_SECONDS)
        self._bucket = storage.Client().bucket(bucket)

    def list(self, most: int) -> Mapping[str, Listed]:
        """Return the objects by their names after the prefix."""
        found: dict[str, Listed] = {}
        blobs = self._bucket.list_blobs(
            prefix=self._prefix, fields=_FIELDS, timeout=REQUEST_SECONDS, retry=self._retry, max_results=most + 1
        )
        for blob in blobs:
            if blob.content_encoding == "gzip":
                raise DeployFailed(
                    f"{self.url} has the object {blob.name!r} in compressed form (Content-Encoding: gzip), which "
                    "Airflow could not read. Upload it again without -z, -j, -Z or -J."
                )
            found[blob.name[len(self._prefix) :]] = Listed(str(blob.generation), blob.size)
        return found

    def read(self, name: str, listed: Listed) -> bytes:
        """Return the content of the object with the generation that was listed; the library checks its CRC32C.

        A bucket that keeps versions has it also after the object was replaced; then the next event deploys the new one.
        """
        blob = self._bucket.blob(self._prefix + name, generation=int(listed.tag))
        try:
            return bytes(blob.download_as_bytes(raw_download=True, timeout=REQUEST_SECONDS, retry=self._retry))
        except NotFound as error:
            raise ObjectChanged(name) from error
        except GoogleAPIError as error:
            raise DeployFailed(f"{self.url}{name} cannot be read: {error}") from error


def token() -> str:
    """Return the token for the server: from the environment, or an ID token of this function's service account."""
    if given := os.environ.get("DAGFERRY_TOKEN"):
        return given
    return str(id_token.fetch_id_token(google.auth.transport.requests.Request(), OIDC_AUDIENCE))
