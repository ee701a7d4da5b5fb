"""Build the images, with docker or buildah, and say how large they are.

``make images`` builds ``dagferry-server`` and ``dagferry-sidecar`` for this machine; ``make images IMAGES=airflow``
builds the example image of Airflow with the plugin. A release pushes them for several platforms at once, with
``--push`` and ``--platforms``, and with docker also with an SBOM (of BuildKit's scanner, which is syft) and provenance
for each. With the program syft in ``SYFT`` an SBOM of each local image is written to dist/.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
IMAGES = {
    "server": ("dagferry-server", "Dockerfile.server"),
    "sidecar": ("dagferry-sidecar", "Dockerfile.sidecar"),
    "airflow": ("airflow-dagferry", "deploy/airflow/Dockerfile"),
}
"""What each image is called, and its Dockerfile."""
BUILD_SECONDS = 3600
"""An emulated platform is slow."""
ANSWER_SECONDS = 30


def output_of(*command: str | Path, seconds: int = ANSWER_SECONDS) -> str | None:
    """Return what a command prints; None if it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def version() -> str:
    """Return the version that the code has."""
    text = (HOME / "core" / "dagferry_core" / "__init__.py").read_text()
    [found] = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(found)


def revision() -> str:
    """Return the commit that is built, with ``-dirty`` if a file differs from it; empty outside of a clone."""
    commit = output_of("git", "rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and output_of("git", "status", "--porcelain") else commit or ""


def found_engine() -> str:
    """Return ``docker`` if its daemon answers, else ``buildah``."""
    if shutil.which("docker") and output_of("docker", "version", "--format", "{{.Server.Version}}"):
        return "docker"
    if shutil.which("buildah"):
        return "buildah"
    sys.exit("Neither a docker whose daemon answers nor buildah is here: install one of them.")


def run(command: Sequence[str | Path]) -> None:
    """Run a command; end with its exit code if it fails."""
    done = subprocess.run(command, cwd=HOME, timeout=BUILD_SECONDS, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{command[0]} {command[1]} failed with {done.returncode}.")


def build(engine: str, reference: str, dockerfile: str, options: argparse.Namespace, scratch: Path) -> str | None:
    """Build one image as ``reference``, and push it if that is asked for; return the digest that it was pushed with."""
    arguments = ["--file", dockerfile, "--build-arg", f"VERSION={version()}", "--build-arg", f"REVISION={revision()}"]
    for argument in options.build_arg:
        arguments += ["--build-arg", argument]
    if options.platforms:
        arguments += ["--platform", options.platforms]
    made = scratch / "made"
    if engine == "docker":
        if options.push:
            pushing = ["--push", "--sbom=true", "--provenance=mode=max", "--metadata-file", str(made)]
            run(["docker", "buildx", "build", *arguments, *pushing, "--tag", reference, "."])
            return str(json.loads(made.read_text())["containerimage.digest"])
        run(["docker", "build", *arguments, "--tag", reference, "."])
    elif options.push:
        run(["buildah", "build", *arguments, "--layers", "--manifest", reference, "."])
        run(["buildah", "manifest", "push", "--all", "--digestfile", made, reference, f"docker://{reference}"])
        return made.read_text().strip()
    else:
        run(["buildah", "build", *arguments, "--layers", "--tag", reference, "."])
    return None


def size_of(engine: str, reference: str) -> int:
    """Return the bytes of the layers of a local image, uncompressed."""
    command = {
        "docker": ("docker", "image", "inspect", "--format", "{{.Size}}", reference),
        "buildah": ("buildah", "images", "--json", reference),
    }[engine]
    answer = output_of(*command)
    if answer is None:
        sys.exit(f"{engine} does not know {reference}, which it has just built.")
    return int(answer) if engine == "docker" else bytes_of(json.loads(answer)[0]["size"])


def bytes_of(text: str) -> int:
    """Return the bytes that buildah writes as ``230 MB``."""
    number, unit = text.split()
    return int(float(number) * {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit])


def describe(engine: str, syft: str, reference: str, into: Path) -> Path:
    """Write the SBOM of a local image, in the format SPDX, and return its path."""
    into.mkdir(exist_ok=True)
    path = into / f"{reference.rpartition('/')[2].partition(':')[0]}.spdx.json"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "image.tar")
        if engine == "docker":
            run(["docker", "save", "--output", archive, reference])
        else:
            run(["buildah", "push", "--quiet", reference, f"docker-archive:{archive}:{reference}"])
        run([syft, "scan", f"docker-archive:{archive}", "--output", f"spdx-json={path}", "--quiet"])
    return path


def main(arguments: Sequence[str]) -> None:
    """Build the images that are named, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"which of {', '.join(IMAGES)}; server and sidecar")
    parser.add_argument("--engine", choices=("docker", "buildah"), help="what builds; what is found on this machine")
    parser.add_argument("--registry", default="", help="where the image goes, such as ghcr.io/acme")
    parser.add_argument("--push", action="store_true", help="push it; to a registry that you are logged in to")
    parser.add_argument("--platforms", default="", help="such as linux/amd64,linux/arm64; this machine's")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="BASE, AIRFLOW")
    parser.add_argument("--into", type=Path, default=HOME / "dist", help="the folder for the SBOMs")
    options = parser.parse_args(arguments)
    if unknown := set(options.images) - set(IMAGES):
        parser.error(f"There is no image {', '.join(sorted(unknown))}: there are {', '.join(IMAGES)}.")
    if options.push and not options.registry:
        parser.error("--push needs --registry.")
    if "," in options.platforms and not options.push:
        parser.error("Several --platforms at once need --push: they are one image only in a registry.")
    engine = options.engine or found_engine()
    for name in options.images or ("server", "sidecar"):
        called, dockerfile = IMAGES[name]
        reference = f"{options.registry}/{called}:{version()}" if options.registry else f"{called}:{version()}"
        with tempfile.TemporaryDirectory() as scratch:
            digest = build(engine, reference, dockerfile, options, Path(scratch))
        if digest:
            sys.stdout.write(f"{reference}@{digest}\n")
            continue
        sys.stdout.write(f"{reference}  {size_of(engine, reference) / 1e6:.0f} MB\n")
        if syft := os.environ.get("SYFT"):
            sys.stdout.write(f"{describe(engine, syft, reference, options.into)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
