"""A server that trusts an API server's service account tokens, by the issuers file that deploy/kubernetes ships."""

from pathlib import Path

from cluster.control import ApiServer
from deployfiles import KUBERNETES, documents

[SHIPPED] = [found for found in documents(KUBERNETES / "server.yaml") if found["kind"] == "ConfigMap"]
_MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"


def shipped_issuers(folder: Path, api_server: ApiServer, namespace: str, bearer: str) -> str:
    """Write the shipped issuers file for this namespace, with paths and addresses outside a pod; return its path.

    ``bearer`` is the token of the server's own account.
    """
    (folder / "bearer").write_text(bearer)
    text = SHIPPED["data"]["issuers.toml"]
    for inside, outside in {
        "https://kubernetes.default.svc/": f"{api_server.url}/",
        f"{_MOUNTED}/ca.crt": str(api_server.authority.certificate),
        f"{_MOUNTED}/token": str(folder / "bearer"),
        ":serviceaccount:airflow:": f":serviceaccount:{namespace}:",
    }.items():
        assert text.count(inside) == 1, inside
        text = text.replace(inside, outside)
    return _written(folder, text)


def without_bearer(path: str) -> str:
    """Take the server's own token out of an issuers file."""
    kept = [line for line in Path(path).read_text().splitlines() if not line.startswith("bearer_token_file")]
    return _written(Path(path).parent, "\n".join(kept))


def by_discovery(path: str, issuer: str) -> str:
    """Have the keys of an issuers file found at its issuer, a URL, instead of at a URL of their own."""
    lines = [line for line in Path(path).read_text().splitlines() if not line.startswith("jwks_url")]
    kept = [f'issuer = "{issuer}"' if line.startswith("issuer =") else line for line in lines]
    return _written(Path(path).parent, "\n".join(kept))


def _written(folder: Path, text: str) -> str:
    path = folder / "issuers.toml"
    path.write_text(text)
    return str(path)
