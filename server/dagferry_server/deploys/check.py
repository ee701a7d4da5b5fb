"""From a received file to a deploy: check it, commit it, say what came of it.

Checking runs beside the event loop, a few uploads at a time; see ``dagferry_server.deploys.commit`` for what follows.
"""

import asyncio
import secrets
from functools import partial
from typing import BinaryIO

from dagferry_core.archive.check import ArchiveRules, CheckedArchive, check_archive
from dagferry_core.deploylog import NONCE_BYTES
from dagferry_server.deploys.commit import New, commit
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.receive import Received
from dagferry_server.deploys.secret_files import secret_warnings
from dagferry_server.deploys.warnings import cut_warnings, dropped_warnings, log_warnings
from dagferry_server.http.models import UploadAnswer
from dagferry_server.memory import Turn, in_turn
from dagferry_server.service import Service
from dagferry_server.store.base import storage_errors


async def deploy_upload(
    service: Service, deployment: Deployment, received: Received, *, actor: str, root: str | None
) -> UploadAnswer:
    """Deploy what lies under ``root`` in a received file.

    Raises what ``check_archive`` raises, ``ServerBusy``, ``StoreFull`` and ``StoreFailed``.
    """
    return await in_turn(partial(_deploy_upload, service, deployment, received, actor=actor, root=root))


async def _deploy_upload(
    service: Service, deployment: Deployment, received: Received, turn: Turn, *, actor: str, root: str | None
) -> UploadAnswer:
    name = deployment.name
    async with service.checking:
        spool = await asyncio.to_thread(service.folder.scratch_file, name)
        try:
            with service.metrics.check_seconds.labels(name).time():
                rules = deployment.settings.archive_rules
                checked = await asyncio.to_thread(_check, received.file, spool, rules, root, turn)
            warnings = [
                *checked.warnings,
                *secret_warnings(checked.manifest.files),
                *cut_warnings(received.description),
            ]
            new = New(received.description, actor, service.clock(), secrets.token_hex(NONCE_BYTES), warnings)
            async with deployment.lock:
                # Both may have come while the upload did.
                service.deployment(name)
                deployment.refuse_if_disabled()
                with service.metrics.commit_seconds.labels(name).time():
                    deploy = await commit(service, deployment, checked, spool, new, sha256=received.sha256)
                current = deploy or deployment.current_deploy()
        finally:
            await asyncio.to_thread(service.folder.discard, spool)
    if not deploy:
        warnings += dropped_warnings(received.description, current)
    log_warnings(warnings, deployment=name, version=current.version, actor=actor, sha256=received.sha256)
    return UploadAnswer(
        version=current.version,
        digest=current.digest,
        sequence=current.sequence,
        unchanged=deploy is None,
        added=deploy.added if deploy else 0,
        changed=deploy.changed if deploy else 0,
        removed=deploy.removed if deploy else 0,
        warnings=warnings,
        excluded=checked.excluded_files,
        excluded_paths=checked.excluded,
    )


def _check(upload: BinaryIO, spool: BinaryIO, rules: ArchiveRules, root: str | None, turn: Turn) -> CheckedArchive:
    with storage_errors("Unpacking the upload"):
        checked = check_archive(upload, spool, rules, root=root, when_large=turn.take)
        spool.flush()
    return checked
