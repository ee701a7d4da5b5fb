"""Makes the dags folder on this machine the newest deploy: reads it, checks it, sends it.

In this order: its own tests if wanted, what no server accepts, what the server has already, whether what is new parses,
the upload. Nothing is sent before the checks passed.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dagferry_client.api import Api, DeployOptions
from dagferry_client.base import Known, find_base
from dagferry_client.local.cache_folder import cache_folder
from dagferry_client.local.folder import find_dags_folder
from dagferry_client.local.git import Source, read_source
from dagferry_client.local.image_files import changed_image_files, image_note, image_record
from dagferry_client.local.judge import broken, judge
from dagferry_client.local.manifest_cache import ManifestCache
from dagferry_client.local.pack import change_between
from dagferry_client.local.precheck import run_pytest
from dagferry_client.local.tree import LocalTree
from dagferry_client.output import Output
from dagferry_client.reading import read_folder
from dagferry_client.upload import Content, Sent, Uploader
from dagferry_core.deploylog import MAX_DESCRIPTION_CHARACTERS
from dagferry_follow.errors import AnswerInvalid
from dagferry_gate.rules import Rules

OVERRIDE = "override"
IMAGE = "image"
"""The key of ``git`` in the deploy log under which the image's files are recorded."""


class Wanted(NamedTuple):
    """What the options say. ``pytest_path`` is ``None`` if no tests are to run; ``under`` ends with a slash."""

    path: str | None
    includes: tuple[str, ...]
    rules: Rules
    pytest_path: str | None
    under: str
    message: str
    options: DeployOptions
    yes: bool


def deploy(api: Api, deployment: str, output: Output, wanted: Wanted) -> Sent:
    """Deploy what ``wanted`` says; return the server's answer. Raises whatever stops it."""
    folder = find_dags_folder(wanted.path)
    if wanted.pytest_path is not None:
        run_pytest(folder, wanted.pytest_path)
    # Git answers while the files are read.
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(read_source, folder.path, os.environ)
        tree = read_folder(folder, wanted.includes)
        source, note = asked.result()
    for warning in (*tree.warnings, note):
        if warning:
            output.warn(warning)
    cache = ManifestCache(os.path.join(cache_folder(), "manifests"))
    known = find_base(api, deployment, wanted.under, tree.manifest.size, cache)
    options = wanted.options
    if not options.skip_gate:
        _judge(tree, known, wanted.rules, output)
    elif not _may_override(api, deployment):
        output.say(f"The token has no scope {OVERRIDE} on {deployment}, so the server's own gate decides.")
        options = options._replace(skip_gate=False)
    image = image_record(folder, tree.outside)
    # The server keeps less, and says so; it would refuse a form with a commit's whole message of 64 KiB.
    description = (wanted.message or source.description())[: MAX_DESCRIPTION_CHARACTERS + 1]
    content = Content(tree, known.base, wanted.under, description, _origin(source, image))
    sent = Uploader(api, deployment, output, yes=wanted.yes).send(content, options)
    _check(tree, wanted, sent)
    if sent.deployed.digest == tree.manifest.digest:
        cache.save(tree.manifest)
    before = ((known.last.git if known.last else None) or {}).get(IMAGE, "")
    if note := image_note(changed_image_files(before, image)):
        output.warn(note)
    return sent


def _judge(tree: LocalTree, known: Known, rules: Rules, output: Output) -> None:
    """Raise ``DagsBroken`` if DAG files do not parse that the server has not accepted as they are."""
    changed = change_between(known.base.manifest, tree.manifest).changed if known.base else None
    verdict = judge(tree, rules, changed)
    if not verdict.passed:
        raise broken(verdict)
    for warning in verdict.warnings:
        output.warn(warning)


def _may_override(api: Api, deployment: str) -> bool:
    return any(one.name == deployment and OVERRIDE in one.scopes for one in api.deployments())


def _origin(source: Source, image: str) -> dict[str, str]:
    return {**source.facts(), **({IMAGE: image} if image else {})}


def _check(tree: LocalTree, wanted: Wanted, sent: Sent) -> None:
    """Raise ``AnswerInvalid`` if something else was stored than what was sent."""
    deployed, digest = sent.deployed, tree.manifest.digest
    other = deployed.digest != digest and not wanted.under and not deployed.excluded
    if other or not (deployed.version or deployed.dry_run):
        raise AnswerInvalid(
            f"The server answered that {deployed.version or 'nothing'} is deployed, with the digest {deployed.digest}, "
            f"but {digest} was sent.",
            "Look at what is deployed now: dagferry diff. If it is wrong: dagferry rollback.",
        )
