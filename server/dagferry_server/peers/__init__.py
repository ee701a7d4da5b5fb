"""The other servers on the same store: told of each deploy at once, and asked for the pods that they know."""
