"""What a Python file depends on: which modules it imports and which data files it may read."""
