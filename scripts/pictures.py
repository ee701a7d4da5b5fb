"""Draw the pictures of the documentation: docs/images/*.dot → *.svg, with Graphviz (``apt-get install graphviz``).

Each SVG contains the sha256 of its source, so a test can check without Graphviz that it is up to date.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def mark(source: Path) -> str:
    """Return the comment that an up-to-date picture of ``source`` has."""
    return f"<!-- {source.name} sha256:{hashlib.sha256(source.read_bytes()).hexdigest()} -->"


def main() -> int:
    """Draw every picture."""
    for source in sorted(IMAGES.glob("*.dot")):
        command = ["dot", "-Tsvg", str(source)]
        drawn = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own files
        svg = re.sub(r"<!--.*?-->\n?", "", drawn, flags=re.DOTALL)  # Graphviz names its own version there
        source.with_suffix(".svg").write_text(svg.replace("<svg", f"{mark(source)}\n<svg", 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
