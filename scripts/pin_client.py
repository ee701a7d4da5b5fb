"""Write deploy/ci/requirements.txt: a wheel of dagferry and all that its client needs, with their hashes.

A release writes it with the wheel that it publishes. ``make dist TAG=v…`` fails if it is not that of the wheel; the
wheel is the same on every machine (see ``make_dist``), and deploy/ is not in it.
"""

import argparse
import hashlib
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
CLIENT_PINS = HOME / "requirements" / "client.txt"
REQUIREMENTS = HOME / "deploy" / "ci" / "requirements.txt"
HEAD = """\
# What deploy.sh beside this file installs: dagferry {version} and all that it needs, by exact version and hash.
# Written by scripts/pin_client.py. pip can download dagferry {version} once that version is released.
"""


def pinned(wheel: Path, client_pins: str) -> str:
    """Return the text of the file for this wheel; ``client_pins`` is the text of requirements/client.txt."""
    name, version, *_ = wheel.name.split("-")
    if name != "dagferry" or wheel.suffix != ".whl":
        raise ValueError(f"{wheel} is not a wheel of dagferry. Build one with: make dist")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pins = "".join(line for line in client_pins.splitlines(keepends=True) if not line.startswith("#"))
    return f"{HEAD.format(version=version)}dagferry=={version} \\\n    --hash=sha256:{digest}\n{pins}"


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="dist/dagferry-….whl, which make dist writes")
    parser.add_argument("--into", type=Path, default=REQUIREMENTS, help="the file to write")
    options = parser.parse_args()
    try:
        text = pinned(options.wheel, CLIENT_PINS.read_text())
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    options.into.write_text(text)


if __name__ == "__main__":
    main()
