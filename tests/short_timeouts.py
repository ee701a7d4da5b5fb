"""``dagferry-sidecar`` with timeouts of a second at most, where the real one waits for a minute or more."""

import sys

from dagferry_follow.remote import server as fetch

fetch.CONNECT_SECONDS = 0.5
fetch.SILENCE_SECONDS = 0.5
fetch.DOWNLOAD_SECONDS = 1.0

if __name__ == "__main__":
    from dagferry_sidecar.__main__ import main

    sys.exit(main())
