"""What the collector counts beside what every agent does."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class CollectorMetrics:
    """Each source's successes and failures, and the slots that came of them."""

    def __init__(self) -> None:
        self.results = Counter(
            "microopt_collector_source_results_total",
            "Measurements of a source: ok, duplicate, late, dead (no measurement); failed: it was started anew.",
            ["source", "outcome"],
            registry=None,
        )
        self.last_success = Gauge(
            "microopt_collector_source_last_success_timestamp_seconds",
            "When a source last gave a measurement that could be used.",
            ["source"],
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
        for metric in (self.results, self.last_success, self.slots):
            registry.register(metric)
