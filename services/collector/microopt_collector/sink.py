"""One source's way into the collector: counts what comes and decides what of the rejected is kept."""

import time
from collections.abc import Callable

import structlog
from prometheus_client import Counter

from microopt_collector.dead import DeadLetters
from microopt_collector.metrics import CollectorMetrics
from microopt_collector.slots import Verdict
from microopt_collector.sources.base import Measurement, Reason, Rejected

Accept = Callable[[Measurement, float], Verdict]


class SourceSink:
    """The sink of one source; it looks its metrics up once, for messages come by the thousand."""

    def __init__(self, source: str, accept: Accept, metrics: CollectorMetrics, dead: DeadLetters) -> None:
        self._source = source
        self._accept = accept
        self._dead = dead
        self._verdicts = {v: metrics.results.labels(source, v) for v in ("ok", "duplicate", "late")}
        self._dead_count = metrics.results.labels(source, "dead")
        self._rejected = metrics.rejected
        self._reasons: dict[Reason, Counter] = {}
        self._last_success = metrics.last_success.labels(source)
        self._up = metrics.up.labels(source)
        self._duration = metrics.duration.labels(source)
        self._hints: set[str] = set()
        self._log = structlog.get_logger("microopt.collector").bind(source=source)

    def emit(self, measurement: Measurement) -> None:
        """Put `measurement` into its slice's book.

        Raises:
            Rejected: there is no such slice, or its values are implausible.
        """
        now_s = time.time()
        verdict = self._accept(measurement, now_s)
        self._verdicts[verdict].inc()
        if verdict == "ok":
            self._last_success.set(now_s)

    def reject(self, data: bytes, *, subject: str, error: Rejected) -> None:
        """Count `data`, and keep it if few of its kind are kept."""
        self._dead_count.inc()
        child = self._reasons.get(error.reason)
        if child is None:
            child = self._reasons[error.reason] = self._rejected.labels(self._source, error.reason)
        child.inc()
        self._dead.put(self._source, data, subject, error)

    def up(self, is_up: bool) -> None:
        """Set the source's gauge."""
        self._up.set(is_up)

    def took(self, seconds: float) -> None:
        """Note a duration."""
        self._duration.observe(seconds)

    def hint(self, text: str) -> None:
        """Log `text` once."""
        if text not in self._hints:
            self._hints.add(text)
            self._log.warning("source_hint", hint=text)
