"""The files that configure the server: how they are read, parsed, and read again when they change."""
