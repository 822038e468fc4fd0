"""Keeping one source alive, whatever becomes of it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from microopt.errors import MicrooptError
from microopt_collector.metrics import CollectorMetrics
from microopt_collector.sources.base import Sink, Source

WAITS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


async def supervise(
    source: Source, sink: Sink, metrics: CollectorMetrics, waits_s: Sequence[float] = WAITS_S
) -> None:
    """Run `source` for ever; log and count each end, and wait longer from one to the next.

    The waits begin anew after a run that was longer than the longest of them.
    """
    log = structlog.get_logger("microopt.collector").bind(source=source.name)
    failures = 0
    while True:
        began = time.monotonic()
        try:
            await source.run(sink)
            log.error("source_ended")  # it should run for ever
        except MicrooptError as error:  # said on purpose: the text is enough
            log.error("source_failed", error=str(error))
        except Exception:
            log.exception("source_failed")
        sink.up(False)
        metrics.results.labels(source.name, "failed").inc()
        failures = 0 if time.monotonic() - began > max(waits_s) else failures
        await asyncio.sleep(waits_s[min(failures, len(waits_s) - 1)])
        failures += 1
