"""``dagferry check``: what ``dagferry deploy`` would refuse, without a server."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import click

from dagferry_client.local.folder import find_dags_folder
from dagferry_client.local.import_check import Imported, import_dags
from dagferry_client.output import size
from dagferry_client.reading import FOLDER_OPTIONS, read_folder, rules_of
from dagferry_client.run import Run, sub_command
from dagferry_client.settings import offline_entry
from dagferry_core.errors import SetupError


class Checked(NamedTuple):
    """What ``--json`` prints if nothing is refused: the folder, how much it has, the digest it would have.

    ``imported`` is ``null`` without ``--import``.
    """

    folder: str
    files: int
    bytes: int
    digest: str
    warnings: list[str]
    imported: Imported | None


BROKEN_HINT = "Correct them, or set --airflow-python if Airflow runs on another Python."


@sub_command(
    *FOLDER_OPTIONS,
    click.option(
        "--target", "target_name", metavar="NAME", help="A target of dagferry.toml, for its Python and Airflow."
    ),
    click.option(
        "--import",
        "imports",
        is_flag=True,
        help="Import all DAG files with a real Airflow, too, as dagferry-checker does.",
    ),
    click.option(
        "--import-python",
        metavar="PYTHON",
        help="With --import: the Python that has Airflow and dagferry[checker]; by default the one that runs dagferry.",
    ),
    examples=(
        "dagferry check",
        "dagferry check my-project --airflow-python 3.11",
        "dagferry check --target prod --json",
        "dagferry check --import --import-python .venv-airflow/bin/python",
    ),
    prints=(Checked,),
    exits={0: "Nothing that deploy would refuse.", 3: "Something is refused."},
    connects=False,
)
def command(
    run: Run,
    *,
    path: str | None,
    includes: tuple[str, ...],
    airflow_python: str | None,
    airflow: str | None,
    target_name: str | None,
    imports: bool,
    import_python: str | None,
) -> None:
    """Check what deploy would refuse, without a server.

    Names, links, limits, secrets, and whether the DAG files parse; with --import also whether Airflow can load them.
    The exit code is 3 if anything is refused.
    """
    if import_python and not imports:
        raise SetupError("--import-python needs --import.")
    from dagferry_client.local.judge import broken, judge  # noqa: PLC0415 - --help does without
    from dagferry_client.local.tree import bundle_warnings  # noqa: PLC0415

    entry, warnings = offline_entry(target_name, os.environ, Path.cwd())
    rules = rules_of(airflow_python or entry.airflow_python, airflow or entry.airflow)
    folder = find_dags_folder(path)
    tree = read_folder(folder, includes)
    manifest = tree.manifest
    verdict = judge(tree, rules)
    warnings += [*tree.warnings, *bundle_warnings(manifest), *verdict.warnings]
    for warning in warnings:
        run.output.warn(warning)
    if not verdict.passed:
        raise broken(verdict, BROKEN_HINT)
    imported = None
    if imports:
        imported, unjudged = import_dags(tree, import_python or sys.executable)
        for warning in unjudged:
            run.output.warn(warning)
        warnings += unjudged
    if run.output.json_wanted:
        run.output.json(Checked(folder.shown, len(manifest.files), manifest.size, manifest.digest, warnings, imported))
        return
    files = len(manifest.files)
    run.output.line(
        f"{folder.shown}: {files} file{'s' * (files != 1)}, {size(manifest.size)}. Nothing that deploy would refuse."
    )
    if imported:
        dags = f"{imported.dags} DAG{'s' * (imported.dags != 1)}"
        run.output.line(f"Airflow {imported.airflow} on Python {imported.python} loads {dags}.")
