"""The web page: what people open in a browser. It needs the extra ``[web]``, and is off with ``--no-web``."""
