"""The arguments of the DAG bundle, for the docs, and the checks of those that say which old trees stay.

Without Airflow, so that the docs can be written where it is not installed.
"""

from typing import NamedTuple

from dagferry_core.errors import SetupError
from dagferry_core.names import DEFAULT_DEPLOYMENT
from dagferry_follow import defaults
from dagferry_follow.volume.records import TreeRules

MIN_TREE_BYTES = 1


class Keep(NamedTuple):
    """Which old trees stay on a volume, as the sidecar's ``--keep-trees``, ``--keep-hours``, ``--max-tree-bytes``."""

    trees: int = defaults.KEEP_TREES
    hours: float = defaults.KEEP_HOURS
    max_bytes: int | None = None
    """``None``: the share of the volume that trees fill by default."""

    def check(self) -> "Keep":
        """Return the same; raise ``SetupError`` if a value cannot be used."""
        trees, hours, max_bytes = self
        if type(trees) is not int or not 0 <= trees <= defaults.MAX_KEEP_TREES:
            raise SetupError(
                f"keep_trees is {trees!r}: a whole number from 0 to {defaults.MAX_KEEP_TREES} is expected."
            )
        if type(hours) not in {int, float} or not 0 <= hours <= defaults.MAX_KEEP_HOURS:
            raise _invalid("keep_hours", hours, f"a number from 0 to {defaults.MAX_KEEP_HOURS:g}")
        if max_bytes is not None and (type(max_bytes) is not int or max_bytes < MIN_TREE_BYTES):
            raise _invalid("max_tree_bytes", max_bytes, "a positive whole number of bytes")
        return self

    def rules(self, root: str) -> TreeRules:
        """Return the rules for the volume of ``root``; ``OSError`` if its size is not known."""
        return defaults.tree_rules(root, *self)


DEFAULT_KEEP = Keep()


def _invalid(name: str, value: object, expected: str) -> SetupError:
    return SetupError(
        f"{name} is {value!r}: {expected} is expected.", f"Change {name} in the kwargs of the DAG bundle."
    )


class Argument(NamedTuple):
    """An argument of ``DagferryBundle``: its name, its default as a person writes it, and what it does."""

    name: str
    default: str
    help: str


ARGUMENTS = (
    Argument("server", "required", "The server's URL."),
    Argument("deployment", f"`{DEFAULT_DEPLOYMENT}`", "The deployment."),
    Argument("token_file", "none", "A file with a token of scope `sync`; read for each request."),
    Argument("ca_file", "none", "Certificate authorities to trust instead of the machine's own."),
    Argument(
        "allow_plain_http",
        "`false`",
        "Send the token over plain HTTP to another machine, as inside a cluster of your own.",
    ),
    Argument("view_url_template", "none", "A web page that shows a version, with `{version}` in its URL."),
    Argument(
        "keep_trees",
        str(defaults.KEEP_TREES),
        "This many of the newest old trees are kept; the previous one always.",
    ),
    Argument(
        "keep_hours",
        f"{defaults.KEEP_HOURS:g}",
        "Trees that were live within this many hours are kept too, and those that tasks still use.",
    ),
    Argument(
        "max_tree_bytes",
        f"{100 * defaults.TREE_SHARE:g} % of the volume",
        "A number of bytes for all trees together. Above it the oldest go first, then the oldest that tasks still use; "
        "the live and the previous tree are always kept.",
    ),
)
"""Without those that all of Airflow's bundles have."""


def documented() -> list[tuple[str, str, str]]:
    """Return name, default and help of every argument, for the docs."""
    return [(f"`{argument.name}`", argument.default, argument.help) for argument in ARGUMENTS]
