"""Finds files that look as if they hold a secret: who deploys them is warned, because every pod will have them."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

PATTERNS = (
    *(".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", ".netrc", ".pgpass"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"),
)
"""Names of files, at any depth. ``id_*`` in full, because DAGs have names such as ``id_mapping.py``."""
MAX_SHOWN_PATHS = 10


def secret_warnings(paths: Iterable[str]) -> list[str]:
    """Return a warning that names the first of ``paths`` that look like secrets; nothing if there is none."""
    found = [path for path in paths if any(fnmatchcase(path.rpartition("/")[2], pattern) for pattern in PATTERNS)]
    if not found:
        return []
    more = f" and {len(found) - MAX_SHOWN_PATHS} more" if len(found) > MAX_SHOWN_PATHS else ""
    return [
        f"These look like secrets, and every Airflow pod will have them: {', '.join(found[:MAX_SHOWN_PATHS])}{more}."
    ]
