from datetime import UTC, datetime, timedelta

import pytest

from microopt.messages import Allocation, Interval

START = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = {"transport_bandwidth": 20.0, "gnb_cpu": 2250.0}


@pytest.fixture
def make_allocation():
    """Build the allocation of an interval of ten seconds, number `n`, with any field changed."""

    def build(epoch: int = 1, n: int = 0, **changes) -> Allocation:
        interval = Interval(START + timedelta(seconds=10 * n), 10.0)
        fields = {
            "slice": "1-000001",
            "pool": "edge",
            "interval": interval,
            "epoch": epoch,
            "values": VALUES,
            "valid_until": interval.end,
            "optimizer": f"of-epoch-{epoch}",
            "status": "optimal",
            "expected_degradation": 0.08,
            "asked_threshold": 0.09,
        }
        return Allocation(**{**fields, **changes})

    return build
