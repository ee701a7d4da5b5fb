"""What a bundle and a patch are, as bytes: the manifest, the canonical tar, its frames."""
