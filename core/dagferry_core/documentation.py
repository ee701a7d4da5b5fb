"""Where the documentation is, and whom its pages are for.

Hints link to it, because an installed package has no docs folder.
"""

from enum import Enum

DOCUMENTATION = "https://github.com/dagferry/dagferry/blob/main/docs"
"""Followed by the path of a page in ``docs/``, such as ``/reference/protocol.md#endpoints``; a test follows each."""


class Audience(Enum):
    """Who meets an error first, and has to act; the value names them in the documentation."""

    DEPLOYERS = "deployers"
    OPERATORS = "operators"  # of the server
    PODS = "pods"  # those who run Airflow's pods
    CLIENTS = "clients"  # those who write a client
