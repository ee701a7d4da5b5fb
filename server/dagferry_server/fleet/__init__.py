"""The sidecars that the server knows, and the requests that wait for a change."""
