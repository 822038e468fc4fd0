from datetime import UTC, datetime, timedelta

import pytest

from microopt.broker import free_port
from microopt.messages import Telemetry

pytest_plugins = ["microopt.testing.fixtures"]

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def telemetry():
    """Build the telemetry of slot `n`, with any field changed."""

    def build(n: int = 0, **changes) -> Telemetry:
        fields = {
            "slice": "1-000001",
            "time": START + timedelta(seconds=n),
            "slot_s": 1.0,
            "users": 3.0,
            "qos": 4.5,
        }
        return Telemetry(**{**fields, **changes})

    return build


@pytest.fixture
def unused_port() -> int:
    """Return a loopback port that nobody listens on."""
    return free_port()
