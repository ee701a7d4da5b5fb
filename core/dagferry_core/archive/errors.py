"""What can be wrong with an upload: the archive is invalid, or its content cannot become a bundle.

The server answers with these errors, so the hints are for the people who pack archives and for the server's operator.
"""

from dagferry_core.documentation import Audience
from dagferry_core.errors import EXIT_REFUSED, DagferryError


class ArchiveError(DagferryError):
    """The upload is not a valid archive."""

    code = "archive_error"
    audience = Audience.DEPLOYERS
    status = 422
    exit_code = EXIT_REFUSED
    default_hint = "Pack the dags folder again, for example with: tar -czf dags.tar.gz dags"


class ArchiveNotRecognized(ArchiveError):
    """The upload is not a tar archive, plain or compressed with gzip or zstd."""

    code = "archive_not_recognized"


class ArchiveTruncated(ArchiveError):
    """The archive ends before its end marker, or its compression before its trailer."""

    code = "archive_truncated"
    default_hint = "Part of the file is missing. Pack the dags folder again and upload the complete file."


class ArchiveCorrupt(ArchiveError):
    """A checksum, a number or a header in the archive is invalid."""

    code = "archive_corrupt"


class ArchiveTrailingData(ArchiveError):
    """There is data after the end of the archive, or of its compressed stream."""

    code = "archive_trailing_data"
    default_hint = (
        "Upload a single archive, compressed once, with nothing appended. bsdtar, the tar of macOS, adds padding when "
        "it writes to a pipe: write the archive to a file (-f dags.tar.gz) and upload that file."
    )


class ArchiveUnsupported(ArchiveError):
    """The archive uses a feature that different programs interpret differently."""

    code = "archive_unsupported"
    default_hint = "Pack the dags folder with a plain tar (ustar, PAX or GNU), without sparse files or access times."


class WindowTooLarge(ArchiveError):
    """The zstd frame needs a window of more than 8 MiB, which every reader would have to hold in memory."""

    code = "window_too_large"
    default_hint = "Compress with zstd levels up to 19, without --ultra and --long."


class BundleError(DagferryError):
    """The archive is valid, but its content cannot become a bundle."""

    code = "bundle_error"
    audience = Audience.DEPLOYERS
    status = 422
    exit_code = EXIT_REFUSED
    default_hint = "Remove or rename the file that the message names, and deploy again."


class MemberTypeRefused(BundleError):
    """The archive contains a device, a FIFO, a socket or an unknown type; only files, folders and links are allowed."""

    code = "member_type_refused"


class PathRefused(BundleError):
    """A path is absolute, leads out of the bundle, is not UTF-8, or is too long or too deep."""

    code = "path_refused"


class PathDuplicate(BundleError):
    """The archive contains the same path twice."""

    code = "path_duplicate"


class PathConflict(BundleError):
    """A path is both a file (or a link) and a folder."""

    code = "path_conflict"


class LinkRefused(BundleError):
    """A link leads out of the bundle, points at nothing, or is part of a loop."""

    code = "link_refused"
    default_hint = (
        "Replace the link with the file it points at, or remove it. To do so for all links, deploy with dagferry "
        "deploy, or pack with tar -h, for example: tar -chzf dags.tar.gz dags"
    )


class RootMixed(BundleError):
    """Some members are inside the top folder ``dags/`` and some outside of it."""

    code = "root_mixed"
    default_hint = (
        "Pack only the dags folder. Or add root=dags to the upload's query to deploy only what is inside it, or root=. "
        "to deploy the archive as it is."
    )


class RootIsLink(BundleError):
    """The dags folder itself is a link in the archive, so its content is missing."""

    code = "root_is_link"
    default_hint = "The dags folder was a symbolic link when it was packed. Pack the folder that it points at."


class RootNotFound(BundleError):
    """The archive does not contain the folder given as ``root`` in the upload's query."""

    code = "root_not_found"
    default_hint = "Check root in the upload's query against what tar -tzf dags.tar.gz lists."


class BundleEmpty(BundleError):
    """The archive contains no files, for example because the dags folder is empty or missing."""

    code = "bundle_empty"
    default_hint = "Check the path of the dags folder. To deploy an empty folder, start the server with --allow-empty."


class ExpandedTooLarge(BundleError):
    """The archive expands to more bytes than ``--max-expanded-bytes``."""

    code = "expanded_too_large"
    status = 413
    default_hint = "Remove large files from the dags folder, or raise --max-expanded-bytes on the server."


class TooManyFiles(BundleError):
    """The archive has more files and folders than ``--max-files``."""

    code = "too_many_files"
    status = 413
    default_hint = "Remove files that are not DAGs, or raise --max-files on the server."


class PathsTooLarge(BundleError):
    """The paths and link targets in the archive are too long in total."""

    code = "paths_too_large"
    status = 413
    default_hint = "Remove files that are not DAGs, or shorten the names of their folders."


class RatioTooHigh(BundleError):
    """The archive expands to so many times its size that it is treated as a decompression bomb."""

    code = "ratio_too_high"
    status = 413
    default_hint = "Remove files that consist mostly of zeros or repetitions."
