"""Manifests of bundles that servers have, kept so that only a change has to be sent.

A manifest is kept under its digest, which the deploy log names for every version, so one that is damaged or replaced
is found out, and a rollback's is known again. The newest are kept.
"""

import contextlib
import os

import zstandard

from dagferry_client.local.cache_folder import prune, write_cached
from dagferry_core.bundle.manifest import MAX_MANIFEST_BYTES, Manifest
from dagferry_core.errors import FormatError
from dagferry_core.limits import MIB
from dagferry_core.names import is_digest

MAX_MANIFESTS = 20
MAX_CACHED_BYTES = 64 * MIB
"""How many manifests are kept, and how many bytes they may take together. One of 2,000 files takes 90 kB."""
_SUFFIX = ".manifest.zst"


class ManifestCache:
    """The manifests in the folder ``folder``, which need not exist."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def load(self, digest: str) -> Manifest | None:
        """Return the manifest with this digest, ``None`` if it is not there or damaged."""
        if not is_digest(digest):
            return None
        path = self._path(digest)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_CACHED_BYTES + 1)
            if not 0 < zstandard.frame_content_size(data) <= MAX_MANIFEST_BYTES:
                return None
            manifest = Manifest.parse(zstandard.decompress(data))
        except (OSError, zstandard.ZstdError, FormatError):
            return None
        if manifest.digest != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return manifest

    def save(self, manifest: Manifest) -> None:
        """Keep a manifest; those that were not used for longest may go."""
        path = self._path(manifest.digest)
        if not os.path.exists(path):
            write_cached(path, zstandard.compress(manifest.text))
            prune(self._folder, MAX_MANIFESTS, MAX_CACHED_BYTES)

    def _path(self, digest: str) -> str:
        return os.path.join(self._folder, digest.removeprefix("sha256:") + _SUFFIX)
