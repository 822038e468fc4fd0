"""What the collector counts beside what every agent does."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATION_BUCKETS_S = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class CollectorMetrics:
    """Each source's successes and failures, and the slots that came of them."""

    def __init__(self) -> None:
        self.results = Counter(
            "microopt_collector_source_results_total",
            "Measurements of a source: ok, duplicate, late, dead (rejected); failed: it was started anew.",
            ["source", "outcome"],
            registry=None,
        )
        self.rejected = Counter(
            "microopt_collector_rejected_total",
            "What a source heard and what is no measurement, by reason.",
            ["source", "reason"],
            registry=None,
        )
        self.last_success = Gauge(
            "microopt_collector_source_last_success_timestamp_seconds",
            "When a source last gave a measurement that could be used.",
            ["source"],
            registry=None,
        )
        self.up = Gauge(
            "microopt_collector_source_up",
            "1 while what a source asks or hears answers.",
            ["source"],
            registry=None,
        )
        self.duration = Histogram(
            "microopt_collector_source_duration_seconds",
            "Time that one poll took, or the handling of one message that was pushed.",
            ["source"],
            buckets=DURATION_BUCKETS_S,
            registry=None,
        )
        self.slots = Counter(
            "microopt_collector_slots_total",
            "Slots closed, by quality: complete, partial, missing.",
            ["quality"],
            registry=None,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Have these served with the agent's own."""
        for metric in (self.results, self.rejected, self.last_success, self.up, self.duration, self.slots):
            registry.register(metric)
