"""What is wrong with an archive: the person who packed it has to act, so a client must not send it again unchanged."""

from dagferry_core.archive.errors import ArchiveError, BundleError
from dagferry_core.errors import EXIT_REFUSED, with_subclasses

TOO_LARGE = {"ExpandedTooLarge", "TooManyFiles", "PathsTooLarge", "RatioTooHigh"}


def test_an_archive_is_refused_for_good_and_as_too_large_where_it_is() -> None:
    for error in with_subclasses(ArchiveError, BundleError):
        assert error.status == (413 if error.__name__ in TOO_LARGE else 422), error
        assert error.exit_code == EXIT_REFUSED
