"""Draw the pictures of the web page in the docs, with Chromium.

A picture has the hash of what it was made of; a test compares it, so that no picture is older than the page.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME / "tests"))

from browsers import Visit, chromium  # noqa: E402
from web_scene import Scene  # noqa: E402

IMAGES = HOME / "docs" / "images"
MARK = IMAGES / "web-pictures.sha256"
PICTURES = ("web-deployment", "web-deploy", "web-rollback")
SCHEMES = ("light", "dark")
SIZE = {"width": 1000, "height": 900}


def sources() -> list[Path]:
    """Return the files that a picture depends on."""
    web = HOME / "server" / "dagferry_server" / "web"
    found = [*(web / "templates").iterdir(), *(web / "static").iterdir()]
    found += [HOME / "scripts" / "web_pictures.py", HOME / "tests" / "web_scene.py"]
    return sorted(path for path in found if path.is_file())


def mark() -> str:
    """Return the hash of the sources."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(f"{path.relative_to(HOME)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest() + "\n"


@contextmanager
def _open(browser: Any, scene: Scene, scheme: str) -> Iterator[Any]:
    visit = Visit(browser, scene.url, color_scheme=scheme, viewport=SIZE)
    page = visit.tab("/-/ui/deployments/prod")
    visit.sign_in(page, scene.viewer)
    page.wait_for_url("**/deployments/prod")
    yield page
    visit.context.close()
    if visit.problems:
        raise SystemExit(f"The page has problems: {visit.problems}")


def draw(folder: Path) -> None:
    """Write the pictures to a folder."""
    with tempfile.TemporaryDirectory() as data, Scene(Path(data)) as scene, chromium() as browser:
        for scheme in SCHEMES:
            with _open(browser, scene, scheme) as page:

                def picture(name: str, scheme: str = scheme, page: Any = page) -> None:
                    page.screenshot(path=str(folder / f"{name}-{scheme}.png"))

                picture("web-deployment")
                page.get_by_role("link", name="What changed").click()
                page.locator(".diff").first.wait_for()
                picture("web-deploy")
                page.get_by_role("link", name="Undo").click()
                page.locator(".confirm").wait_for()
                picture("web-rollback")


if __name__ == "__main__":
    draw(IMAGES)
    MARK.write_text(mark())
