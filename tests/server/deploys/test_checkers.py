"""Who is connected, who is warming, and who is away."""

from dagferry_server.deploys.candidates import CheckerNote
from dagferry_server.deploys.checkers import (
    AWAY_SECONDS,
    KNOWN_SECONDS,
    MAX_CHECKERS,
    Checkers,
    Greeting,
    greeting_of,
)


class Site:
    def __init__(self) -> None:
        self.now, self.changes = 1000.0, 0
        self.checkers = Checkers(lambda: self.now, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def ask(self, name: str = "a", **more) -> None:
        with self.checkers.visit(Greeting(name, **more)):
            pass

    def names(self) -> list[str]:
        return [each.greeting.instance for each in self.checkers.known]


def note(name: str = "a", beat: str = "1", *, warming: bool = False) -> CheckerNote:
    return CheckerNote(name, "3.3.2", "3.11.7", "stub", warming, beat)


def test_a_checker_is_connected_while_it_waits_and_for_thirty_seconds() -> None:
    site = Site()
    assert not site.checkers.connected
    with site.checkers.visit(Greeting("a")):
        site.now += 100
        assert site.checkers.connected
    assert site.checkers.away_at == site.now + AWAY_SECONDS
    site.now += AWAY_SECONDS
    assert not site.checkers.connected
    assert site.names() == ["a"]


def test_one_that_is_warming_is_known_and_not_connected() -> None:
    site = Site()
    site.ask(warming=True)
    assert (site.checkers.connected, len(site.checkers.heard)) == (False, 1)
    site.ask()
    assert (site.checkers.connected, site.changes) == (True, 2)


def test_a_second_request_changes_nothing() -> None:
    site = Site()
    site.ask(airflow="3.3.2")
    site.ask(airflow="3.3.2")
    assert site.changes == 1
    site.now += AWAY_SECONDS
    site.ask(airflow="3.3.2")
    assert site.changes == 2


def test_one_that_leaves_is_gone() -> None:
    site = Site()
    site.ask()
    site.ask(leaving=True)
    site.ask(leaving=True)
    assert (site.names(), site.changes) == ([], 2)


def test_nobody_in_particular_is_no_checker() -> None:
    site = Site()
    with site.checkers.visit(None):
        assert site.names() == []


def test_a_checker_of_another_server_lives_as_long_as_its_note_changes() -> None:
    site = Site()
    for beat in ("1", "2", "3"):
        site.checkers.note_others([note(beat=beat)])
        assert site.checkers.connected
        site.now += AWAY_SECONDS - 1
    assert site.changes == 1
    site.checkers.note_others([note(beat="3")])
    site.now += 2
    assert not site.checkers.connected
    site.checkers.note_others([])
    assert site.names() == []


def test_a_checker_that_asks_here_is_not_overruled_by_a_note() -> None:
    site = Site()
    site.ask(airflow="3.3.2")
    site.checkers.note_others([note(warming=True)])
    assert site.checkers.connected
    site.checkers.note_others([])
    assert site.names() == ["a"]


def test_others_are_told_of_those_that_ask_here() -> None:
    site = Site()
    site.ask("a", airflow="3.3.2", python="3.11.7", variables="env", warming=True)
    site.checkers.note_others([note("b")])
    [first], [second] = site.checkers.beats(), site.checkers.beats()
    assert first[:5] == ("a", "3.3.2", "3.11.7", "env", True)
    assert first.beat != second.beat
    site.now += AWAY_SECONDS
    assert site.checkers.beats() == []


def test_its_own_note_is_no_sign_of_life() -> None:
    site = Site()
    site.ask("a")
    notes = site.checkers.beats()
    site.now += AWAY_SECONDS + 1
    site.checkers.note_others(notes)
    assert not site.checkers.connected


def test_not_more_than_the_maximum_are_remembered() -> None:
    site = Site()
    for number in range(MAX_CHECKERS + 5):
        site.now += 1
        site.ask(f"checker-{number:02}")
    assert site.names() == [f"checker-{number:02}" for number in range(5, MAX_CHECKERS + 5)]
    site.now += KNOWN_SECONDS + 1
    assert site.names() == []


def test_headers_are_cut_and_cleaned() -> None:
    found = greeting_of(
        {"Dagferry-Instance": "a\x1b" * 500, "Dagferry-Airflow": "3" * 100, "Dagferry-Checker": "warming"}
    )
    assert found is not None
    assert (len(found.instance), found.instance[:2], len(found.airflow), found.warming) == (253, "a?", 40, True)
    assert greeting_of({"Dagferry-Airflow": "3.3.2"}) is None
    assert greeting_of({"Dagferry-Instance": "a", "Dagferry-Once": "1"}) is None
    assert greeting_of({"Dagferry-Instance": "a", "Dagferry-Deregister": "1"}) == Greeting("a", leaving=True)
