"""The command ``dagferry``: deploys, and shows and undoes deploys. One file for each sub-command."""
