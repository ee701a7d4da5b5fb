"""Namespaces for tests: each with a name of its own, and admission as strict as Kubernetes has it."""

import itertools

from cluster.control import ApiServer

_numbers = itertools.count()


def restricted_namespace(api_server: ApiServer, *accounts: str) -> str:
    """Make a namespace that enforces the Pod Security Standard "restricted", with these service accounts.

    ``default`` is made too: without controllers nobody else does.
    """
    name = f"restricted-{next(_numbers)}"
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    create(api_server, "/api/v1/namespaces", {"metadata": {"name": name, "labels": levels}})
    for account in ("default", *accounts):
        create(api_server, f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": account}})
    return name


def create(api_server: ApiServer, path: str, body: object) -> None:
    """Create an object, or fail."""
    status, answer = api_server.request("POST", path, body)
    assert status == 201, answer
