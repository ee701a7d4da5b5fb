"""Finds files that look like secrets: an upload that has them gets a warning, because every pod will have them."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

PATTERNS = (".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", ".netrc", ".pgpass")
"""Names of files, at any depth; case is ignored."""
KEYS = ("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_xmss")
"""What ssh-keygen calls its keys. Other names that start with ``id_`` only count without a suffix, because DAGs have
names such as ``id_mapping.py``."""
NO_KEYS = (".pub", ".py")
EXAMPLES = (".example", ".sample", ".template", ".dist")
"""Suffixes of files that list variables without their values."""
MAX_SHOWN_PATHS = 10


def secret_warnings(paths: Iterable[str]) -> list[str]:
    """Return a warning that names the first of ``paths`` that look like secrets, if any do."""
    found = [path for path in paths if _looks_secret(path.rpartition("/")[2].lower())]
    if not found:
        return []
    more = f" and {len(found) - MAX_SHOWN_PATHS} more" if len(found) > MAX_SHOWN_PATHS else ""
    return [
        f"These look like secrets, and every Airflow pod will have them: {', '.join(found[:MAX_SHOWN_PATHS])}{more}."
    ]


def _looks_secret(name: str) -> bool:
    if name.startswith("id_") and ("." not in name or (name.startswith(KEYS) and not name.endswith(NO_KEYS))):
        return True
    return not name.endswith(EXAMPLES) and any(fnmatchcase(name, pattern) for pattern in PATTERNS)
