"""What the outcomes of all DAG files of a tree mean together: its problems, and which of them are new. Pure."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from dagferry_checker.problems import Key, Kind, Outcome, Problem, Unjudged, first_names, key_of
from dagferry_checker.traces import needs_network

STUB = "dagferry-stub"
"""How made-up values begin: two DAGs whose ids contain one may have different ids where the real values are."""
NETWORK = "network"
_PASSING = frozenset({Kind.TIMEOUT, Kind.MEMORY, Kind.CRASH})

Outcomes = Mapping[str, Outcome]
"""By the path of the DAG file."""
Elsewhere = Mapping[str, str]
"""Where the DAG ids of other deployments are, in words, by DAG id."""


def problems_of(
    outcomes: Outcomes, live: "Known | None" = None, elsewhere: Elsewhere | None = None
) -> tuple[list[Problem], list[Unjudged]]:
    """Return what is wrong with a tree, in the order of its paths, and what could not be judged.

    ``live`` is what is known of the live tree, which says what is new; ``None``: everything is. ``elsewhere`` are the
    DAG ids that the tree must not have.
    """
    found: list[Problem] = []
    unjudged: list[Unjudged] = []
    for path in sorted(outcomes):
        outcome = outcomes[path]
        for fault in outcome.faults:
            network = needs_network(fault)
            if network or (fault.soft and outcome.names):
                names = first_names((*outcome.names, *([NETWORK] if network else [])))
                unjudged.append(Unjudged(path, fault.message, names))
            else:
                found.append(Problem(path, fault.line, fault.message, fault.kind, fault.trace, new=True))
    found += _duplicates(outcomes, live.outcomes if live else {})
    keys = live.keys if live else frozenset()
    found = [problem._replace(new=key_of(problem) not in keys) for problem in found]
    found += _taken(outcomes, live.dags if live else (), elsewhere or {})
    return sorted(found, key=lambda problem: (problem.path, problem.line)), unjudged


def may_pass(outcome: Outcome) -> bool:
    """Return whether a fault may be gone at the next attempt: the machine was busy, or the network was away."""
    return any(fault.kind in _PASSING or needs_network(fault) for fault in outcome.faults)


class Known:
    """What is known of a tree that was checked: outcomes of its files, its DAG ids, and the keys of its problems."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.dags: Collection[str] = frozenset(dag_id for outcome in outcomes.values() for dag_id in outcome.dags)
        self.keys: Collection[Key] = frozenset(key_of(problem) for problem in problems_of(outcomes)[0])


def _duplicates(outcomes: Outcomes, live: Outcomes) -> list[Problem]:
    """Return a problem for each file with a DAG id that another one has, too: not for the file that had it first."""
    paths: dict[str, list[str]] = defaultdict(list)
    for path in sorted(outcomes):
        for dag_id in outcomes[path].dags:
            paths[dag_id].append(path)
    found = []
    for dag_id, several in paths.items():
        if len(several) == 1 or STUB in dag_id:
            continue
        first = next((path for path in several if path in live and dag_id in live[path].dags), several[0])
        found += [_duplicate(path, dag_id, first, new=True) for path in several if path != first]
    return found


def _taken(outcomes: Outcomes, live: Collection[str], elsewhere: Elsewhere) -> list[Problem]:
    """Return a problem for each file with a DAG id that another deployment has: new unless a ``live`` file has the id.

    So a file that is renamed has no new problem, nor has one whose id the other deployment took later.
    """
    return [
        _duplicate(path, dag_id, elsewhere[dag_id], new=dag_id not in live)
        for path, outcome in outcomes.items()
        for dag_id in outcome.dags
        if dag_id in elsewhere and STUB not in dag_id
    ]


def _duplicate(path: str, dag_id: str, where: str, *, new: bool) -> Problem:
    text = f"DAG id {dag_id!r} is also in {where}. Airflow shows one of them, and changes between them."
    return Problem(path, 0, text, Kind.DUPLICATE, "", new=new)
