"""What the actuator counts, beside what every agent does."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from microopt.metrics import LATENCY_BUCKETS_S


class ActuatorMetrics:
    """The actuator's metrics, in the registry of its agent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.writes = Counter(
            "microopt_actuator_writes_total",
            "Attempts to put a value in force, by end: verified, differs, temporary, refused, contested, crashed.",
            ["driver", "outcome"],
            registry=registry,
        )
        self.apply_s = Histogram(
            "microopt_actuator_apply_duration_seconds",
            "From when a value is due to its being read back, where it had to be written.",
            ["driver"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.drift = Counter(
            "microopt_actuator_drift_total",
            "Times that a verified value was found changed by somebody else.",
            ["slice", "resource"],
            registry=registry,
        )
        self.contested = Gauge(
            "microopt_actuator_contested",
            "1 where a value that others keep changing was given up, until the next allocation.",
            ["slice", "resource"],
            registry=registry,
        )
        self.blind = Gauge(
            "microopt_actuator_blind",
            "1 while the slice's allocation has expired and its blind policy rules.",
            ["slice"],
            registry=registry,
        )
        self.effects = Gauge(
            "microopt_actuator_effective",
            "1 where telemetry shows the verified value at work, 0 where the slice uses more than it has.",
            ["slice", "resource"],
            registry=registry,
        )
