"""What the server has already, so that only a change is sent: the newest deploy and its manifest."""

from typing import NamedTuple

from dagferry_client.api import Api
from dagferry_client.deploy_log import LoggedDeploy
from dagferry_client.errors import ClientError
from dagferry_client.local.manifest_cache import ManifestCache
from dagferry_core.bundle.manifest import Manifest
from dagferry_core.errors import FormatError
from dagferry_core.limits import MIB
from dagferry_follow.errors import AnswerInvalid

MIN_LISTED_BYTES = MIB
"""For a smaller dags folder the list of files is not worth a request: it has as many bytes as it saves."""
MAX_SEARCHED_DEPLOYS = 20
"""How many deploys are searched for the last one of the same folder."""


class Base(NamedTuple):
    """A version on the server; ``manifest`` is of the folder that is deployed, with paths relative to it."""

    version: str
    manifest: Manifest


class Known(NamedTuple):
    """What the server has: ``last`` is the last deploy of the same folder, ``base`` what a change can start from."""

    last: LoggedDeploy | None
    base: Base | None


def find_base(api: Api, deployment: str, under: str, size: int, cache: ManifestCache) -> Known:
    """Return what the server has of a deployment, or of its folder ``under``; ``size`` are the bytes to deploy.

    The manifest comes from ``cache``, or from the server if that saves something.
    """
    deploys = api.log(deployment, MAX_SEARCHED_DEPLOYS if under else 1).deploys
    if not deploys:
        return Known(None, None)
    head = deploys[0]
    last = next((deploy for deploy in deploys if deploy.under == under), None)
    manifest = cache.load(head.digest)
    if manifest is None and size >= MIN_LISTED_BYTES:
        manifest = _listed(api, deployment, head, cache)
    return Known(last, Base(head.version, below(manifest, under)) if manifest else None)


def below(manifest: Manifest, under: str) -> Manifest:
    """Return the manifest of the folder ``under``, which ends with a slash, with paths relative to it; all if empty."""
    if not under:
        return manifest
    return Manifest(
        entry._replace(path=path[len(under) :]) for path, entry in manifest.files.items() if path.startswith(under)
    )


def _listed(api: Api, deployment: str, head: LoggedDeploy, cache: ManifestCache) -> Manifest | None:
    """Return the manifest by the server's list of files; ``None`` if there is none: then everything is sent."""
    try:
        manifest = api.files(deployment, head.version).manifest()
    except (ClientError, AnswerInvalid, FormatError):
        return None
    if manifest.digest != head.digest:
        return None
    cache.save(manifest)
    return manifest
