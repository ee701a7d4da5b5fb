"""Fixtures of the tests of deploy/ci."""

from action_jobs import job, place

__all__ = ["job", "place"]
