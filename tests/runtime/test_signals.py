"""Signals to stop: taken wherever the work is, at most once, and never lost."""

import os
import signal

import pytest

from dagferry_runtime.signals import Stopped, Stopping


@pytest.fixture
def stopping():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    made = Stopping()
    made.listen()
    yield made
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_breaks_off_the_work(stopping, number) -> None:
    with pytest.raises(Stopped):
        os.kill(os.getpid(), number)


def test_without_a_signal_the_work_goes_on(stopping) -> None:
    stopping.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_was_dropped_by_a_finalizer_is_not_lost(stopping) -> None:
    class Unlucky:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):  # so that the handler runs before this ends
                pass

    unlucky = Unlucky()
    del unlucky
    with pytest.raises(Stopped):
        stopping.check()


def test_a_second_signal_does_not_break_off_the_end(stopping) -> None:
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.received


def test_no_step_mistakes_the_exception_for_its_own_failure() -> None:
    assert not issubclass(Stopped, Exception)
