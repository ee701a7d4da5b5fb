"""The other servers on the same store: informed of each deploy at once, and asked which pods they know."""
