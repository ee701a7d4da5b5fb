"""The status is asked for until there is news; what may pass is asked for again, and all else is an error."""

import pytest

from dagferry_client.api import Api, Status
from dagferry_client.decode import decode
from dagferry_client.errors import ConnectionLost, RequestNotAllowed, ServerUnavailable
from dagferry_client.poll import PAUSE_SECONDS, Poll
from recorded_answers import STATUS


class Scripted(Api):
    """Answers or errors, one after another."""

    def __init__(self, *answers: object) -> None:
        self.answers, self.asked = list(answers), []

    def status(self, deployment: str, *, tag: str = "", wait: int = 0, **_: object):
        self.asked.append((deployment, tag, wait))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


FIRST = (decode(Status, STATUS), '"1"')


def test_the_first_answer_comes_at_once_and_later_ones_with_news() -> None:
    api = Scripted(FIRST, (None, '"1"'))
    poll = Poll(api, "prod")
    assert (poll.ask(900.5), poll.news) == (FIRST[0], True)
    assert (poll.ask(900.5), poll.news) == (FIRST[0], False)
    assert poll.status == FIRST[0]
    assert api.asked == [("prod", "", 0), ("prod", '"1"', 50)]


def test_a_lost_answer_keeps_what_is_known() -> None:
    lost = ConnectionLost("It is away.")
    poll = Poll(Scripted(FIRST, lost, ServerUnavailable("It starts.", retry_after=1)), "prod")
    poll.ask(10)
    assert poll.ask(10) is None
    assert (poll.status, poll.error, poll.news) == (FIRST[0], lost, False)
    assert poll.ask(10) is None


@pytest.mark.parametrize("error", [RequestNotAllowed("No."), ServerUnavailable("It is broken.")])
def test_an_answer_that_stays_the_same_is_an_error(error) -> None:
    with pytest.raises(type(error)):
        Poll(Scripted(error), "prod").ask(10)


@pytest.mark.parametrize(
    ("answers", "took", "left", "pause"),
    [
        ([FIRST], 0.1, 30, 0),
        ([FIRST, (None, "")], 0.1, 30, PAUSE_SECONDS),
        ([FIRST, (None, "")], 50, 30, 0),
        ([FIRST, ConnectionLost("It is away.")], 10, 30, PAUSE_SECONDS),
        ([FIRST], 0.1, 0.4, 0.4),
    ],
)
def test_the_pause_is_for_what_answers_too_fast(answers, took, left, pause) -> None:
    poll = Poll(Scripted(*answers), "prod")
    for _ in answers:
        poll.ask(30)
    assert poll.pause(took, left) == pause
