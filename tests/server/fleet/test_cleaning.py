"""Texts that clients report are bounded, and harmless where they are shown."""

from dagferry_server.fleet.cleaning import clean, clean_lines


def test_what_a_terminal_would_obey_is_replaced() -> None:
    assert clean("a\tb\n\x1b[2Jé\ud800\ue000", 100) == "a?b??[2Jé?\ue000"
    assert clean("one\u2028two\u2029\x9b\U0001f600", 100) == "one?two??\U0001f600"
    assert clean("x" * 50, 10) == "x" * 10


def test_lines_stay_lines() -> None:
    assert clean_lines("a\r\nb\n\tc\x1b[2J\ud800", 100) == "a\nb\n    c?[2J?"


def test_of_a_long_trace_the_end_stays_and_no_half_character() -> None:
    assert clean_lines("x" * 100 + "\nlast", 5) == "\nlast"
    assert clean_lines("é" * 10, 5) == "éé"
