"""What an upload may be: checks an archive, strictly, and says what it holds."""
