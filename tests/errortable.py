"""Every error there is, from the modules of all rooms."""

import importlib

from dagferry_core.errors import DagferryError, with_subclasses

for module in (
    "dagferry_core.archive.errors",
    "dagferry_checker.errors",
    "dagferry_follow.errors",
    "dagferry_client.errors",
    "dagferry_client.local.errors",
    "dagferry_gate.errors",
    "dagferry_server.errors",
):
    importlib.import_module(module)

ALL_ERRORS = tuple(with_subclasses(DagferryError))
