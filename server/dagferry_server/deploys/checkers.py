"""The checkers of one deployment: who is connected, and since when nobody is.

A checker is connected while it waits for candidates, and for ``AWAY_SECONDS`` after each request. So it has to ask
while it checks, too. One that is warming, because it has not checked yet what is live, is known and not connected.

Another server's checkers are known by notes in the store, which that server writes anew every ``BEAT_SECONDS``: a note
that changes is a sign of life, and clocks of servers do not matter.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from dagferry_core.protocol import AIRFLOW, CHECKER, DEREGISTER, INSTANCE, ONCE, PYTHON, VARIABLES, WARMING
from dagferry_server.deploys.candidates import CheckerNote
from dagferry_server.fleet.cleaning import MAX_NAME_CHARACTERS, clean

AWAY_SECONDS = 30.0
"""After which silence a checker is away."""
BEAT_SECONDS = 10.0
"""How often other servers learn of a connected checker."""
KNOWN_SECONDS = 3600.0
"""For how long a checker that is away is shown."""
MAX_CHECKERS = 20
"""Of one deployment; the one that was silent for longest is forgotten."""
MAX_VERSION_CHARACTERS = 40
BEAT_BYTES = 8


class Greeting(NamedTuple):
    """What a checker says of itself with a request."""

    instance: str
    airflow: str = ""
    python: str = ""
    variables: str = ""
    warming: bool = False
    leaving: bool = False


def greeting_of(headers: Mapping[str, str]) -> Greeting | None:
    """Return what the headers of a request say about the checker, truncated; ``None`` if they do not name one.

    Also ``None`` for one that runs once: no deploy may wait for it.
    """
    instance = headers.get(INSTANCE)
    if not instance or headers.get(ONCE) == "1":
        return None
    airflow, python, variables = (
        clean(headers.get(name, ""), MAX_VERSION_CHARACTERS) for name in (AIRFLOW, PYTHON, VARIABLES)
    )
    return Greeting(
        clean(instance, MAX_NAME_CHARACTERS),
        airflow,
        python,
        variables,
        warming=headers.get(CHECKER) == WARMING,
        leaving=headers.get(DEREGISTER) == "1",
    )


class Checker:
    """One checker. ``seen`` is monotonic; ``open`` is how many of its requests wait here; ``own``: it asks here."""

    __slots__ = ("beat", "greeting", "open", "own", "seen")

    def __init__(self, greeting: Greeting, seen: float, *, own: bool, beat: str = "") -> None:
        self.greeting = greeting
        self.seen = seen
        self.own = own
        self.beat = beat
        self.open = 0


class Checkers:
    """The checkers of a deployment. ``changed`` is called when there is something to show; ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._known: dict[str, Checker] = {}

    @contextmanager
    def visit(self, greeting: Greeting | None) -> Iterator[None]:
        """Count a checker as present while its request is answered, unless it leaves."""
        if greeting is None:
            yield
            return
        if greeting.leaving:
            if self._known.pop(greeting.instance, None):
                self._changed()
            yield
            return
        checker = self._note(greeting)
        checker.open += 1
        try:
            yield
        finally:
            checker.open -= 1
            checker.seen = self._clock()

    def _note(self, greeting: Greeting) -> Checker:
        now = self._clock()
        checker = self._known.get(greeting.instance)
        if checker is None:
            checker = self._known[greeting.instance] = Checker(greeting, now, own=True)
            self._forget()
            self._changed()
        elif checker.greeting != greeting or not self._is_heard(checker, now):
            self._changed()
        checker.greeting, checker.seen, checker.own = greeting, now, True
        return checker

    def note_others(self, notes: Iterable[CheckerNote]) -> None:
        """Note what other servers have written about checkers."""
        now = self._clock()
        notes = list(notes)
        for note in notes:
            checker = self._known.get(note.instance)
            if checker and (checker.beat == note.beat or (checker.own and self._is_heard(checker, now))):
                continue
            # Whether one that is seen for the first time is alive turns out: until then, it is.
            greeting = Greeting(note.instance, note.airflow, note.python, note.variables, note.warming)
            shown = checker is None or checker.greeting != greeting or not self._is_heard(checker, now)
            self._known[note.instance] = Checker(greeting, now, own=False, beat=note.beat)
            self._forget()
            if shown:
                self._changed()
        there = {note.instance for note in notes}
        for name in [name for name, checker in self._known.items() if not checker.own and name not in there]:
            del self._known[name]
            self._changed()

    def beats(self) -> list[CheckerNote]:
        """Return the notes for other servers, about those that are connected, or warming, here."""
        now = self._clock()
        notes = []
        for checker in self._known.values():
            if checker.own and self._is_heard(checker, now):
                checker.beat = secrets.token_hex(BEAT_BYTES)
                notes.append(CheckerNote(*checker.greeting[:5], beat=checker.beat))
        return notes

    def _is_heard(self, checker: Checker, now: float) -> bool:
        return checker.open > 0 or now - checker.seen < AWAY_SECONDS

    def _forget(self) -> None:
        now = self._clock()
        silent = sorted(
            (checker for checker in self._known.values() if not checker.open), key=lambda checker: checker.seen
        )
        surplus = len(self._known) - MAX_CHECKERS
        for place, checker in enumerate(silent):
            if place < surplus or now - checker.seen > KNOWN_SECONDS:
                del self._known[checker.greeting.instance]

    @property
    def known(self) -> list[Checker]:
        """All of them, by name, those that were away for an hour excluded."""
        now = self._clock()
        heard = [each for each in tuple(self._known.values()) if each.open or now - each.seen <= KNOWN_SECONDS]
        return sorted(heard, key=lambda each: each.greeting.instance)

    @property
    def heard(self) -> list[Checker]:
        """Those that are connected or warming."""
        now = self._clock()
        return [checker for checker in self.known if self._is_heard(checker, now)]

    @property
    def away_at(self) -> float:
        """When none will be connected unless one asks again, by the clock; in the past if none is."""
        now = self._clock()
        ends = [
            (now if checker.open else checker.seen) + AWAY_SECONDS
            for checker in self._known.values()
            if not checker.greeting.warming
        ]
        return max(ends, default=float("-inf"))

    @property
    def connected(self) -> bool:
        """Whether one is connected."""
        return self.away_at > self._clock()

    def silent_seconds(self, checker: Checker) -> float:
        """Return for how many seconds a checker has been silent."""
        return 0.0 if checker.open else max(0.0, self._clock() - checker.seen)
