"""What the auditor counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from microopt.metrics import LATENCY_BUCKETS_S


class AuditorMetrics:
    """Metrics of shadows, of intervals, and of what was decided about canaries."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.shadows = Counter(
            "microopt_auditor_shadow_answers_total",
            "Problems for shadows: kept, refused by the guard in part, failed (late, absent, unreadable), stale "
            "(the interval was over), skipped (too many waited).",
            ["optimizer", "outcome"],
            registry=registry,
        )
        self.shadow_s = Histogram(
            "microopt_auditor_shadow_answer_duration_seconds",
            "Time from asking a shadow to its answer.",
            ["optimizer"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.checks = Counter(
            "microopt_auditor_checks_total",
            "Requests for the slice models' word on shadows' answers: checked or failed.",
            ["outcome"],
            registry=registry,
        )
        self.realised = Gauge(
            "microopt_slice_realised_degradation_ratio",
            "Share of the user-time of the last judged interval that missed the QoS threshold; NaN is unknown.",
            ["slice"],
            registry=registry,
        )
        self.intervals = Counter(
            "microopt_slice_intervals_total",
            "Judged intervals by the SLA's status: FULFILLED, NOT_FULFILLED, UNKNOWN.",
            ["slice", "status"],
            registry=registry,
        )
        self.unjudged = Counter(
            "microopt_auditor_intervals_unjudged_total",
            "Allocated intervals of which nothing is said: without specification, weight, or telemetry that is "
            "still read.",
            ["slice"],
            registry=registry,
        )
        self.slots_unused = Counter(
            "microopt_auditor_slots_unused_total",
            "Slots of telemetry that entered no interval: late, of another length, or too many without an "
            "allocation.",
            ["slice", "reason"],
            registry=registry,
        )
        self.canaries = Counter(
            "microopt_auditor_canaries_total",
            "Canaries judged: promoted or rolled-back.",
            ["pool", "outcome"],
            registry=registry,
        )
