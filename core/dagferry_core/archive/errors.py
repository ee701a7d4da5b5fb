"""What can be wrong with an upload: it is not an archive that can be trusted, or its content makes no bundle.

The server answers with them, so their hints are for whoever packed the archive, or runs the server.
"""

from dagferry_core.documentation import Audience
from dagferry_core.errors import EXIT_REFUSED, DagferryError


class ArchiveError(DagferryError):
    """The upload is not an archive that can be trusted."""

    code = "archive_error"
    audience = Audience.DEPLOYERS
    status = 422
    exit_code = EXIT_REFUSED
    default_hint = "Pack the dags folder again, for example with: tar -czf dags.tar.gz dags"


class ArchiveNotRecognized(ArchiveError):
    """The upload is neither a tar nor a gzip or zstd of one."""

    code = "archive_not_recognized"


class ArchiveTruncated(ArchiveError):
    """The archive ends before its end marker, or its compression before its trailer."""

    code = "archive_truncated"
    default_hint = "Part of the file is missing. Pack it again and upload the whole file."


class ArchiveCorrupt(ArchiveError):
    """A checksum, a number or a header in the archive is wrong."""

    code = "archive_corrupt"


class ArchiveTrailingData(ArchiveError):
    """Something follows the end of the archive or of its one compression frame."""

    code = "archive_trailing_data"
    default_hint = (
        "Upload one archive, compressed once: nothing may be appended to it. bsdtar, which is the tar of macOS, pads "
        "what it writes to a pipe: write the archive to a file (-f dags.tar.gz) and upload that."
    )


class ArchiveUnsupported(ArchiveError):
    """The archive uses a feature that different programs read differently."""

    code = "archive_unsupported"
    default_hint = "Pack the dags folder with a plain tar (ustar, PAX or GNU), without sparse files or access times."


class WindowTooLarge(ArchiveError):
    """The zstd frame asks for a window over 8 MiB, which every reader would have to hold in memory."""

    code = "window_too_large"
    default_hint = "Compress with zstd levels up to 19, without --ultra and --long."


class BundleError(DagferryError):
    """The archive is sound, but its content makes no bundle."""

    code = "bundle_error"
    audience = Audience.DEPLOYERS
    status = 422
    exit_code = EXIT_REFUSED
    default_hint = "Remove or rename the file in the dags folder and deploy again."


class MemberTypeRefused(BundleError):
    """The archive has a device, a FIFO, a socket or something unknown; only files, folders and links may be there."""

    code = "member_type_refused"


class PathRefused(BundleError):
    """A path is absolute, leaves the bundle, is not UTF-8, or is too long or too deep."""

    code = "path_refused"


class PathDuplicate(BundleError):
    """The same path is in the archive twice."""

    code = "path_duplicate"


class PathConflict(BundleError):
    """A path is both a file (or a link) and a folder."""

    code = "path_conflict"


class LinkRefused(BundleError):
    """A link leaves the bundle, points at nothing, or goes in circles."""

    code = "link_refused"
    default_hint = (
        "Replace the link by the file it points at, or remove it. For all links at once: tar -h packs what they point "
        "at, as in: tar -chzf dags.tar.gz dags"
    )


class RootMixed(BundleError):
    """Some members lie under the top folder ``dags/`` and some beside it."""

    code = "root_mixed"
    default_hint = (
        "Pack only the dags folder, or add root=dags to the upload's query to deploy what lies in it, or root=. to "
        "deploy the archive as it is."
    )


class RootIsLink(BundleError):
    """The dags folder itself arrived as a link, without its content."""

    code = "root_is_link"
    default_hint = "The dags folder is a symbolic link where it was packed. Pack the folder it points at."


class RootNotFound(BundleError):
    """The folder that ``root`` in the upload's query names is not in the archive."""

    code = "root_not_found"
    default_hint = "Check root in the upload's query against what tar -tzf dags.tar.gz lists."


class BundleEmpty(BundleError):
    """The archive has no files, as an empty or missing dags folder sends it."""

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
    """The paths in the archive, with the targets of its links, are too many bytes together."""

    code = "paths_too_large"
    status = 413
    default_hint = "Remove files that are not DAGs, or shorten the names of the folders they are in."


class RatioTooHigh(BundleError):
    """The archive expands to so many times its size that it is taken for a bomb."""

    code = "ratio_too_high"
    status = 413
    default_hint = "Remove the files that are mostly zeros or repetition."
