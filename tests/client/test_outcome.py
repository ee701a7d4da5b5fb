"""What is waited for after a deploy, in which order, and what is said of it."""

import pytest

from dagferry_client import outcome
from dagferry_client.airflow_state import Parsed
from dagferry_client.api import Status
from dagferry_client.decode import decode
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import ConnectionLost, ImportErrorsFound, NotConverged, NotParsed
from dagferry_client.outcome import Outcome, Waits, wait_for
from dagferry_client.output import Output
from recorded_answers import DEPLOYED, STATUS, VERSION, import_failure, parsed

DONE = decode(Deployed, DEPLOYED)
READ = decode(Parsed, parsed(error_count=1, errors=[import_failure("b.py", new=False)]))


@pytest.fixture
def waited(monkeypatch):
    """Wait; ``live`` and ``read`` are what each step returns, or raises."""

    def run(waits: Waits, live: object = None, read: object = READ) -> tuple[Outcome, list[tuple[str, float]]]:
        steps: list[tuple[str, float]] = []

        def give(what: object) -> object:
            if isinstance(what, Exception):
                raise what
            return what

        def until_live(_api: object, deployment: str, deployed: Deployed, seconds: float, _say: object) -> object:
            assert (deployment, deployed) == ("prod", DONE)
            steps.append(("live", seconds))
            return give(live or decode(Status, STATUS))

        class Parsing:
            parsed = READ

            def __init__(self, *_: object) -> None:
                pass

            def wait(self, seconds: float, _say: object) -> object:
                steps.append(("parsed", seconds))
                return give(read)

        monkeypatch.setattr(outcome, "wait_until_live", until_live)
        monkeypatch.setattr(outcome, "ParseWait", Parsing)
        return wait_for(None, Output(), "prod", DONE, waits), steps

    return run


def test_nothing_is_waited_for_unless_it_is_wanted(waited) -> None:
    assert waited(Waits(None, None)) == (Outcome(None), [])


@pytest.mark.parametrize(
    ("waits", "steps"),
    [
        (Waits(30, None), [("live", 30)]),
        (Waits(None, 90), [("live", 60), ("parsed", 90)]),
        (Waits(30, 90), [("live", 30), ("parsed", 90)]),
    ],
)
def test_until_it_is_parsed_is_after_it_is_live(waited, waits, steps) -> None:
    found, done = waited(waits)
    assert done == steps
    assert (found.live, found.parsed, found.error) == (True, READ if waits.parsed else None, None)


def test_what_airflow_parsed_and_older_errors_are_said(waited, capsys) -> None:
    waited(Waits(None, 90))
    assert capsys.readouterr().err.splitlines() == [
        f"{VERSION} is live in all 2 pods.",
        "Parsed: 120 files, 200 DAGs, 0 new import errors (1 older), 4.1 s after the deploy.",
        "Older import error: b.py: NameError: rate",
    ]


def test_what_is_not_live_ends_it(waited) -> None:
    error = NotConverged("No.")
    found, steps = waited(Waits(None, 90), live=error)
    assert (found, steps) == (Outcome(live=False, error=error), [("live", 60)])


@pytest.mark.parametrize("error", [NotParsed("No."), ImportErrorsFound("Two.")])
def test_what_is_live_and_not_parsed_says_both(waited, error) -> None:
    found, _ = waited(Waits(None, 90), read=error)
    assert found == Outcome(live=True, parsed=READ, error=error)


@pytest.mark.parametrize(("steps", "what"), [({"live": 1}, "it is live"), ({"read": 1}, "Airflow has parsed it")])
def test_an_error_of_the_server_says_that_it_was_deployed(waited, steps, what) -> None:
    away = ConnectionLost("It is away.", "Try it.")
    found, _ = waited(Waits(None, 90), **dict.fromkeys(steps, away))
    assert isinstance(found.error, NotConverged)
    assert not found.error.is_known
    assert found.error.message == f"{VERSION} was deployed, but whether {what} is not known. It is away."
    assert found.error.hint == "Try it."
