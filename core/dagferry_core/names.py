"""Names that appear in paths and URLs: deployments, versions, digests. Each is checked on the way in."""

import calendar
import re
import time

DEFAULT_DEPLOYMENT = "default"
"""The deployment that is meant where none is named."""
MAX_SEQUENCE = 10**12 - 1
"""An entry's file name has twelve digits, so that names sort as numbers do."""

_DEPLOYMENT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[0-9]{8}T[0-9]{6}Z-([0-9]{6,12})")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_deployment(name: str) -> bool:
    """Return whether ``name`` can name a deployment."""
    return _DEPLOYMENT.fullmatch(name) is not None


def check_deployment(name: str) -> str:
    """Return ``name`` if it can name a deployment (a DNS label: 1 to 63 of ``a-z0-9-``, no hyphen at either end).

    ``ValueError`` otherwise.
    """
    if not is_deployment(name):
        raise ValueError(f"{name!r} is not a valid deployment name: use 1 to 63 of a-z, 0-9 and inner hyphens")
    return name


def make_version(seconds: int, sequence: int) -> str:
    """Return the version of the deploy ``sequence`` made at ``seconds`` (epoch): ``20261120T064501Z-000042``."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(seconds))}-{sequence:06d}"


def version_sequence(version: str) -> int:
    """Return the sequence that a version carries; raise ``ValueError`` if it is not a version."""
    match = _VERSION.fullmatch(version)
    if not match:
        raise ValueError(f"{version!r} is not a valid version; one looks like 20261120T064501Z-000042")
    return int(match[1])


def version_time(version: str) -> int:
    """Return when the deploy of a version was made, in epoch seconds; ``ValueError`` if it is not a version."""
    version_sequence(version)
    return calendar.timegm(time.strptime(version.partition("-")[0], "%Y%m%dT%H%M%SZ"))


def is_digest(text: object) -> bool:
    """Return whether ``text`` is a digest: ``sha256:`` and 64 hexadecimal digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None
