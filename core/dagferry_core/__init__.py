"""What a bundle, a patch, the deploy log, an archive and an error are; every other package builds on it.

Everything here is pure or works only on the files it is given: no network, no asyncio, no settings, no logging.
"""

__version__ = "0.1.0"
