"""Helpers for testing agents against real parts: a nats-server for each test, agents run in-process.

Use the fixtures with `pytest_plugins = ["microopt.testing.fixtures"]` in the top conftest.py.
"""

from microopt.testing.agents import RunningAgent, running
from microopt.testing.waiting import eventually

__all__ = ["RunningAgent", "eventually", "running"]
