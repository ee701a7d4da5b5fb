"""Where the documentation is, and whom its pages are for."""

from urllib.parse import urlsplit

from dagferry_core.documentation import DOCUMENTATION, Audience


def test_hints_append_a_page_to_a_public_address() -> None:
    parts = urlsplit(DOCUMENTATION)
    assert (parts.scheme, parts.query, parts.fragment) == ("https", "", "")
    assert parts.path.endswith("/docs")


def test_every_audience_has_a_word_of_its_own_for_the_documentation() -> None:
    assert [audience.value for audience in Audience] == ["deployers", "operators", "pods", "clients"]
