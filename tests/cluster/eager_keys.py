"""``dagferry-server`` that fetches an issuer's keys once a second at most, where the real one waits for a minute."""

import sys

from dagferry_server.auth import keys

keys.FETCH_EVERY_SECONDS = 1.0

if __name__ == "__main__":
    from dagferry_server.__main__ import main

    sys.exit(main())
