"""What the server knows about the sidecars, and who waits for a change."""
