"""The sub-commands of ``dagferry``: one file each, named after it, with a ``command``. ``app`` has the list of them."""
