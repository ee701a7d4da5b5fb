"""Every limit on what may be uploaded and unpacked, and the arithmetic of tiers.

Sizes are bytes. The defaults of settings are here too, so that each limit is defined once.
"""

from typing import NamedTuple

MIB = 1024 * 1024
GIB = 1024 * MIB

PIECE_BYTES = 256 * 1024
"""The most that is read, hashed or written in one go, so that memory does not grow with the size of an upload."""

UPLOAD_BYTES_PER_TIER = 15 * MIB
"""Bytes of compressed upload that each tier allows."""

TIER_CPUS = 1
TIER_MEMORY_BYTES = 1536 * MIB
"""One tier is one CPU and 1.5 GiB of memory."""

INGRESS_UPLOAD_BYTES = 8 * MIB
"""Bytes of compressed upload that pass a third-party ingress, whatever the tier."""

MAX_EXPANDED_BYTES = 1 * GIB
"""Default of ``--max-expanded-bytes``: the total size of all files in a bundle."""

MAX_FILES = 100_000
"""Default of ``--max-files``: how many files and folders an archive may have; implicit parent folders count too."""

LARGE_FILES = 20_000
"""A bundle with more files takes so much memory while it is checked and stored, that the server does one at a time."""
LARGE_MANIFEST_BYTES = 3 * MIB
"""The manifest of a stored bundle that counts as large: about as many files, with paths of 80 bytes."""

MOST_EXPANDED_BYTES = 16 * MAX_EXPANDED_BYTES
MOST_FILES = 4 * MAX_FILES
"""The maxima of these two settings. A follower rejects anything larger, from any server."""

MOST_FILE_BYTES = 8**11 - 1
"""The most bytes one file may have: the header of a tar has eleven octal digits for it."""

MAX_PATH_BYTES = 1024
MAX_COMPONENT_BYTES = 255
MAX_DEPTH = 64
"""The longest path and component, and the most components: below what Linux and every pod's volume support."""

MAX_PATHS_BYTES = 16 * MIB
"""The maximum total length of all paths and link targets of an archive. They are held in memory several times, here and
in every pod: 99,000 paths of 990 bytes, in an upload of 1.5 MiB, took 1.6 GB. A hundred thousand of 100 bytes fit.
"""

MAX_ZSTD_WINDOW_BYTES = 8 * MIB
"""RFC 8878 §3.1.1.1.2 recommends it as the window every decoder supports; a reader must hold it in memory."""

MAX_ZSTD_BLOCKS = 1_000_000
"""A block holds up to 128 KiB, so this does not limit what can be sent, only the number of tiny blocks."""

MAX_PAX_HEADER_BYTES = 64 * 1024
MAX_PAX_RECORDS = 100
MAX_LONG_NAME_BYTES = 4 * 1024
MAX_EXTENSIONS_PER_MEMBER = 4
"""Limits on the extended headers of one member of a tar (a global and a PAX one, a GNU long name and a long link).
A 408 kB upload with a PAX header of 400 MB took ``tarfile`` to 830 MiB of memory."""

MAX_LINK_STEPS = 40
"""How many links a path may go through; Linux has the same limit (path_resolution(7))."""

MAX_WARNINGS = 20
MAX_EXCLUDED_SHOWN = 100
"""How many warnings, and excluded paths, the answer to an upload lists."""

MAX_LISTED_ERRORS = 20
"""How many invalid paths and links of an archive an error lists."""

MAX_RATIO = 250
RATIO_FREE_BYTES = 64 * MIB
"""An archive that expands to more than both is treated as a decompression bomb. Source code compresses to a fifth; a
small archive with many repetitions does no harm."""


class UploadLimit(NamedTuple):
    """The most bytes one compressed upload may have, the rule that set it, and how to raise it."""

    bytes: int
    rule: str
    hint: str


def upload_limit(tiers: int, *, third_party_ingress: bool) -> UploadLimit:
    """Return the limit of a server that has ``tiers`` (≥ 1) tiers, behind a third-party ingress or not."""
    if third_party_ingress:
        return UploadLimit(
            INGRESS_UPLOAD_BYTES,
            f"{INGRESS_UPLOAD_BYTES // MIB} MiB behind a third-party ingress, whatever the tiers",
            "Remove large files from the dags folder. To raise the limit, reach the server without a third-party "
            "ingress and start it without --third-party-ingress.",
        )
    return UploadLimit(
        tiers * UPLOAD_BYTES_PER_TIER,
        f"{tiers} {'tier' if tiers == 1 else 'tiers'} of {UPLOAD_BYTES_PER_TIER // MIB} MiB",
        "Remove large files from the dags folder. To raise the limit, start the server with more --tiers; with "
        "--tiers auto, give its container more CPU and memory (1 CPU and 1.5 GiB a tier).",
    )


def tiers_from(cpus: float | None, memory_bytes: int | None) -> int:
    """Return how many whole tiers a container's CPU and memory limits allow, at least 1; ``None`` means unlimited."""
    whole = [
        int(limit // unit)
        for limit, unit in ((cpus, TIER_CPUS), (memory_bytes, TIER_MEMORY_BYTES))
        if limit is not None
    ]
    return max(1, min(whole, default=1))


def ratio_too_high(expanded_bytes: int, compressed_bytes: int) -> bool:
    """Return whether an archive expands to so many times its size that it is treated as a decompression bomb."""
    return expanded_bytes > RATIO_FREE_BYTES and expanded_bytes > MAX_RATIO * compressed_bytes
