"""The URL of a store, and how it is opened. obstore is imported only if the store is in a bucket.

Settings and credentials of a cloud come from the environment, by the names that the cloud's own tools have; obstore
reads them. What the tools find and obstore does not is an error here, rather than a wrong identity later.
"""

import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import SetupError
from dagferry_server.store.base import Store

SCHEMES = ("s3", "gs", "az")
REFERENCE = f"{DOCUMENTATION}/reference/object-store.md"
CACHE_SHARE = 0.5
"""The part of the volume of the data folder that cached bundles fill by default."""
MAX_CONFIGURATION_BYTES = 1024 * 1024

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_TRUE = {"1", "true", "yes", "on"}
_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT"}


class Address(NamedTuple):
    """Where a store is: for a bucket, ``path`` is the prefix, without slashes at its ends; for a folder, its path."""

    scheme: str
    bucket: str
    path: str

    @property
    def url(self) -> str:
        """The address as ``parse_store`` reads it."""
        return f"{self.scheme}://{self.bucket}{'/' if self.bucket and self.path else ''}{self.path}"


def parse_store(url: str) -> Address:
    """Return the address that a URL names; ``ValueError`` if it is invalid. The message does not quote a password."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("file", *SCHEMES):
        raise ValueError("a URL that begins with file://, s3://, gs:// or az:// is expected")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("credentials and settings do not belong in this URL; they are variables of the environment")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("file:/// and the whole path of a folder are expected")
        return Address("file", "", os.path.normpath(urllib.parse.unquote(parts.path)))
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"{parts.scheme}:// and the name of a bucket are expected, and a prefix may follow")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError("a prefix has names of A-Z, a-z, 0-9, '.', '_' and '-' with slashes in between")
    return Address(parts.scheme, parts.netloc, prefix)


def open_store(
    address: Address | None, data_folder: str, max_cache_bytes: int | None, environment: Mapping[str, str]
) -> Store:
    """Return the store at the address; ``None`` is the data folder. Nothing is asked of a bucket yet.

    ``SetupError`` if the settings cannot be used, or if what is needed for buckets is not installed.
    """
    if address is None or address.scheme == "file":
        return _open_local(address, data_folder)
    try:
        from dagferry_server.store.bundle_cache import CACHE_NAME, BundleCache  # noqa: PLC0415 - see above
        from dagferry_server.store.object_store import ObjectStore  # noqa: PLC0415
        from dagferry_server.store.objects import Objects  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise SetupError(
            "A store in a bucket needs the package obstore, which is not installed.",
            'Install it: pip install "dagferry[server,objectstore]". The image of the server has it.',
        ) from error
    refuse_unknown_credentials(address.scheme, environment)
    try:
        objects = Objects(*address, *obstore_settings(address.scheme, environment))
    except ValueError as error:
        raise SetupError(f"--store {address.url} cannot be used: {error}.", f"See {REFERENCE}.") from error
    if max_cache_bytes is None:
        volume = os.statvfs(data_folder)
        max_cache_bytes = int(volume.f_frsize * volume.f_blocks * CACHE_SHARE)
    return ObjectStore(objects, BundleCache(os.path.join(data_folder, CACHE_NAME), max_cache_bytes))


def _open_local(address: Address | None, data_folder: str) -> Store:
    from dagferry_server.store.local import LocalStore  # noqa: PLC0415 - see open_store

    if address and os.path.realpath(address.path) != os.path.realpath(data_folder):
        raise SetupError(
            f"--store file://{address.path} is not the data folder {data_folder}.",
            "A store on a local disk is the data folder: set --data-dir to this path, and remove --store.",
        )
    return LocalStore(data_folder)


def obstore_settings(scheme: str, environment: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings of the storage and of its client, beside those that obstore itself reads from the environment."""
    config: dict[str, Any] = {}
    client: dict[str, Any] = {"allow_http": environment.get(_ALLOW_HTTP[scheme], "").lower() in _TRUE}
    endpoint = environment.get(_ENDPOINTS.get(scheme, ""), "")
    if endpoint.startswith("http://") and not client["allow_http"]:
        raise SetupError(
            f"{_ENDPOINTS[scheme]} is an http:// URL: credentials and deploys would be sent in the clear.",
            f"Use https://, or set {_ALLOW_HTTP[scheme]}=true if the network is trusted.",
        )
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise SetupError(
            f"{_ENDPOINTS[scheme]} is not a URL.", "Begin it with https://, as in https://store.example.com:9000."
        )
    if scheme == "s3":
        config["conditional_put"] = "etag"  # a variable could switch it off
        if bundle := environment.get("AWS_CA_BUNDLE"):
            client["root_certificate"] = _read("AWS_CA_BUNDLE", bundle)
    return config, client


def refuse_unknown_credentials(scheme: str, environment: Mapping[str, str]) -> None:
    """Raise ``SetupError`` if the environment names credentials that obstore does not know."""
    if scheme == "s3" and environment.get("AWS_PROFILE") and not environment.get("AWS_ACCESS_KEY_ID"):
        raise SetupError(
            "AWS_PROFILE is set, and profiles in ~/.aws are not read.",
            "Use a role (IRSA, EKS Pod Identity, an instance profile), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            f"and unset AWS_PROFILE. See {REFERENCE}.",
        )
    path = environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    if scheme == "gs" and path:
        try:
            kind = json.loads(_read("GOOGLE_APPLICATION_CREDENTIALS", path)).get("type")
        except (ValueError, AttributeError) as error:
            raise SetupError(f"GOOGLE_APPLICATION_CREDENTIALS: {path} is not a JSON object.") from error
        if kind not in ("service_account", "authorized_user"):
            raise SetupError(
                f"GOOGLE_APPLICATION_CREDENTIALS: {path} has credentials of type {str(kind)[:40]!r}, which are not "
                "supported.",
                "On GKE, use Workload Identity, which needs no file; elsewhere, a key of a service account. Workload "
                f"identity federation (external_account) is not supported. See {REFERENCE}.",
            )


def _read(variable: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_CONFIGURATION_BYTES)
    except OSError as error:
        raise SetupError(f"{variable}: {path} cannot be read: {error.strerror}.") from error
