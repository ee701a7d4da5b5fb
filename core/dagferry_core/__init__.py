"""The ground floor of Dagferry: what a bundle, a patch, the deploy log and an error are.

Everything here is pure or touches only the files it is handed: no network, no asyncio, no settings. The server, the
sidecar and every other package import this one, and never each other.
"""

__version__ = "0.1.0"
