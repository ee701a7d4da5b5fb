"""The URL of the documentation, and its readers. Hints link to it: an installed package has no docs folder."""

from enum import Enum

DOCUMENTATION = "https://github.com/dagferry/dagferry/blob/main/docs"
"""Followed by the path of a page in ``docs/``, such as ``/reference/protocol.md#endpoints``; a test follows each."""


class Audience(Enum):
    """Who sees an error first and has to act; the value names them in the documentation."""

    DEPLOYERS = "deployers"
    OPERATORS = "operators"  # of the server
    PODS = "pods"  # those who run Airflow's pods
    CLIENTS = "clients"  # those who write a client
