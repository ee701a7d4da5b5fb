"""``dagferry-server copy-store FROM TO``: copies deployments to another store, and checks what it copies."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagferry_core.errors import EXIT_LOCAL, SetupError
from dagferry_core.limits import MIB
from dagferry_runtime.commands import Command
from dagferry_runtime.logs import set_up_logs
from dagferry_runtime.settings import Setting
from dagferry_server.deploys.copy_store import Copied, StoreCopy, StoresDiffer
from dagferry_server.settings import names
from dagferry_server.store.address import Address, parse_store
from dagferry_server.store.opened import opened

PROGRESS_SECONDS = 5.0
"""How often a line says how far the copy of a deployment is."""

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "FROM",
        parse_store,
        None,
        "URL",
        "The store to copy: file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX. Servers "
        "may use it meanwhile.",
        has_variable=False,
    ),
    Setting("TO", parse_store, None, "URL", "Where to. No server may use it yet.", has_variable=False),
    Setting(
        "--deployments",
        names,
        None,
        "NAME,…",
        "The deployments to copy; by default all in the store.",
        has_variable=False,
    ),
)


def _copy_store(values: Mapping[str, Any]) -> int:
    """Copy, and print how far it is; return ``EXIT_LOCAL`` if something could not be copied, or differs, else 0."""
    origin, target = values["FROM"], values["TO"]
    _refuse_same(origin, target)
    set_up_logs()
    complete = True
    with opened(origin) as source:
        deployments = _chosen(origin, source.deployments(), values["deployments"])
        with opened(target, write=True) as copy:
            for deployment in deployments:
                one = StoreCopy(source, copy, deployment, _teller(deployment))
                try:
                    one.run()
                except StoresDiffer as error:
                    _say(deployment, f"{error}: nothing was overwritten. Copy to an empty store, or the other way")
                    complete = False
                    continue
                for problem in one.problems:
                    _say(deployment, problem)
                complete = complete and not one.problems
                _say(deployment, f"{_progress(one.result)}; complete{' but for the above' if one.problems else ''}")
    return 0 if complete else EXIT_LOCAL


def _refuse_same(origin: Address, target: Address) -> None:
    if origin == target:
        raise SetupError(f"FROM and TO are both {origin.url}.", "See dagferry-server copy-store --help.")


def _chosen(origin: Address, there: Sequence[str], wanted: Sequence[str] | None) -> Sequence[str]:
    missing = [name for name in wanted or () if name not in there]
    if missing or not there:
        what = f"of {', '.join(missing)}" if missing else "of any deployment"
        raise SetupError(f"{origin.url} has no deploy log {what}.", "Check FROM and --deployments.")
    return there if wanted is None else wanted


def _teller(deployment: str) -> Callable[[Copied], None]:
    said = time.monotonic()

    def tell(copied: Copied) -> None:
        nonlocal said
        if time.monotonic() - said >= PROGRESS_SECONDS:
            said = time.monotonic()
            _say(deployment, _progress(copied))

    return tell


def _progress(copied: Copied) -> str:
    return (
        f"copied {copied.bundles} of {copied.all_bundles} bundles ({copied.bytes / MIB:.1f} MiB) and "
        f"{copied.entries} of {copied.all_entries} entries, the rest was there"
    )


def _say(deployment: str, what: str) -> None:
    sys.stdout.write(f"{deployment}: {what}\n")
    sys.stdout.flush()


COPY_STORE = Command(
    "copy-store",
    "Copy deploy logs and bundles from one store to another.",
    "dagferry-server copy-store file:///var/lib/dagferry s3://my-bucket/dagferry",
    SETTINGS,
    _copy_store,
)
