"""What the server knows of the sidecars, and who waits for a change."""
