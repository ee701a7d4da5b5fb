"""What a deploy is to the server: received, checked, committed, kept. No HTTP."""
