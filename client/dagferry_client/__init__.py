"""The command ``dagferry``: deploys, and shows and undoes deploys. Each sub-command is a file in ``commands/``."""
