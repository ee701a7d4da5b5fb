"""Which files a change touches, from paths and sources alone."""

from hashlib import sha256

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.source.graph import touched
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import imported_names


def bundle(files):
    """The manifest of a bundle from path to source."""
    return Manifest(Entry(path, len(text), 0o644, sha256(text.encode()).hexdigest()) for path, text in files.items())


def touched_by(change, files):
    """What is touched in ``files`` by ``change``: path to the new source, None for a file that is removed."""
    after = {path: text for path, text in (files | change).items() if text is not None}
    sources = {path: text.encode() for path, text in after.items() if path.endswith(".py")}
    imports = {path: imported_names(source) for path, source in sources.items()}
    reads = {path: read_hints(source, imports[path]) for path, source in sources.items()}
    return touched(bundle(files), bundle(after), imports, reads)
