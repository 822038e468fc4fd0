import asyncio

import pytest

from microopt.testing import eventually
from microopt_collector.metrics import CollectorMetrics
from microopt_collector.supervise import supervise


class States:
    """A sink that only hears whether the source is up."""

    def __init__(self) -> None:
        self.states: list[bool] = []

    def up(self, is_up: bool) -> None:
        self.states.append(is_up)


class Flaky:
    """A source that fails, or ends, until its last run."""

    def __init__(self, failures: int, error: Exception | None) -> None:
        self.name = "flaky"
        self.runs = 0
        self.running = asyncio.Event()
        self._failures = failures
        self._error = error

    async def run(self, sink) -> None:
        self.runs += 1
        if self.runs > self._failures:
            self.running.set()
            await asyncio.Event().wait()
        if self._error:
            raise self._error


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), OSError("gone"), None])
async def test_a_source_that_fails_or_ends_is_counted_and_started_again(error):
    source, metrics, sink = Flaky(3, error), CollectorMetrics(), States()
    task = asyncio.create_task(supervise(source, sink, metrics, waits_s=(0.001, 0.002)))
    await eventually(source.running.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.runs == 4
    assert sink.states == [False] * 3
    [counter] = metrics.results.collect()
    assert [(s.labels, s.value) for s in counter.samples if s.name.endswith("_total")] == [
        ({"source": "flaky", "outcome": "failed"}, 3.0)
    ]
