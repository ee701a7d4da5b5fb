"""What can be wrong with the dags folder on this machine. Nothing is sent then."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_core.archive.paths import quoted
from dagferry_core.documentation import Audience
from dagferry_core.errors import EXIT_LOCAL, EXIT_REFUSED, EXIT_USAGE, DagferryError
from dagferry_core.limits import MAX_LISTED_ERRORS


class LocalError(DagferryError):
    """The dags folder on this machine cannot be deployed."""

    audience = Audience.DEPLOYERS


class FolderNotFound(LocalError):
    """There is no dags folder at the given path, or none is given and none is in the current folder."""

    code = "dags_folder_not_found"
    exit_code = EXIT_USAGE
    default_hint = "Name the dags folder, or a project that has one: dagferry deploy PATH."


class Problem(NamedTuple):
    """Something in the dags folder that no server accepts. ``message`` is a sentence that names the path."""

    path: str
    message: str


class FolderInvalid(LocalError):
    """The dags folder has names, links or files that cannot be deployed."""

    code = "dags_folder_invalid"
    exit_code = EXIT_REFUSED
    default_hint = "Rename or remove them, or list them in .dagferryignore."

    def __init__(self, problems: Sequence[Problem], hint: str | None = None) -> None:
        shown = list(dict.fromkeys(problem.message for problem in problems[:MAX_LISTED_ERRORS]))
        more = len(problems) - MAX_LISTED_ERRORS
        head = [f"{len(problems)} things in the dags folder cannot be deployed."] if len(problems) > 1 else []
        rest = [f"And {more} more."] if more > 0 else []
        super().__init__(" ".join([*head, *shown, *rest]), hint)
        self.problems = list(problems)


class DagsBroken(LocalError):
    """DAG files in the dags folder do not parse, so Airflow could not load them."""

    code = "dag_files_broken"
    exit_code = EXIT_REFUSED
    default_hint = (
        "Nothing was sent. Correct them, or set --airflow-python if Airflow runs on another Python. --skip-gate "
        "deploys them nevertheless."
    )

    def __init__(self, message: str, problems: Sequence[Mapping[str, Any]], hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.problems = list(problems)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {**super().as_dict(), "problems": self.problems}


class DagsNotImported(DagsBroken):
    """DAG files in the dags folder parse, but Airflow could not load them: ``dagferry check --import`` says why."""

    code = "dag_files_not_imported"
    default_hint = "Correct them, or install what they import into the environment of Airflow."


class ImportCheckUnavailable(LocalError):
    """The DAG files could not be imported to check them: the Python lacks dagferry-checker or Airflow, for example."""

    code = "import_check_unavailable"
    exit_code = EXIT_USAGE
    default_hint = "Name the Python of an environment with Airflow and dagferry[checker] with --import-python."


class PytestFailed(LocalError):
    """The tests that ``--pytest`` runs failed, or could not be run."""

    code = "pytest_failed"
    exit_code = EXIT_REFUSED
    default_hint = "Nothing was sent. Correct the tests or the DAGs, and deploy again."


class OverUploadLimit(LocalError):
    """The packed dags folder is larger than the server accepts for the deployment."""

    code = "over_upload_limit"
    exit_code = EXIT_REFUSED
    default_hint = (
        "Nothing was sent. List in .dagferryignore what no DAG needs, such as data and binaries, or ask the server's "
        "operator for a higher limit (--tiers, --third-party-ingress)."
    )


class FolderChanged(LocalError):
    """A file in the dags folder was changed while the folder was read."""

    code = "dags_folder_changed"
    exit_code = EXIT_LOCAL
    default_hint = "Deploy again when nothing writes into the dags folder."

    def __init__(self, path: str) -> None:
        super().__init__(f"{quoted(path)} was changed or removed while the dags folder was read.")


class IncludeInvalid(LocalError):
    """An ``--include`` is not NAME=PATH, its path does not exist, or its name cannot be used."""

    code = "include_invalid"
    exit_code = EXIT_USAGE
    default_hint = "Write a name and a path, such as include=../include, after --include."


class IgnoreFileInvalid(LocalError):
    """A ``.dagferryignore`` cannot be read, or has an invalid pattern."""

    code = "ignore_file_invalid"
    exit_code = EXIT_USAGE
    default_hint = "It has one pattern a line, with the syntax of .gitignore."


class PackFailed(LocalError):
    """The archive to send could not be written to the folder for temporary files."""

    code = "pack_failed"
    exit_code = EXIT_LOCAL
    default_hint = "Free some space there, or set TMPDIR to a folder that has space."
