"""Fixtures of the tests of deploy/ci."""

from action_jobs import job, place
from ci_site import site

__all__ = ["job", "place", "site"]
