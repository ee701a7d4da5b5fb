"""Checks an uploaded archive strictly, and lists what it contains."""
