"""Namespaces for tests: each with a name of its own, and admission as strict as Kubernetes has it."""

import itertools

from cluster.api import Api

CREATED, CONFLICT = 201, 409
_numbers = itertools.count()


def restricted_namespace(api: Api, *accounts: str, name: str = "") -> str:
    """Make a namespace that enforces the Pod Security Standard "restricted", with these service accounts.

    ``default`` is there too: where there are controllers, they make it.
    """
    name = name or f"restricted-{next(_numbers)}"
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    create(api, "/api/v1/namespaces", {"metadata": {"name": name, "labels": levels}})
    for account in ("default", *accounts):
        path = f"/api/v1/namespaces/{name}/serviceaccounts"
        status, answer = api.request("POST", path, {"metadata": {"name": account}})
        assert status == CREATED or (account, status) == ("default", CONFLICT), answer
    return name


def create(api: Api, path: str, body: object) -> None:
    """Create an object, or fail."""
    status, answer = api.request("POST", path, body)
    assert status == CREATED, answer
