"""What the forecaster counts beside what every agent does."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from microopt.metrics import LATENCY_BUCKETS_S


class ForecasterMetrics:
    """Forecasts by what became of them, their time, and the history that they rest on."""

    def __init__(self) -> None:
        self.forecasts = Counter(
            "microopt_forecaster_forecasts_total",
            "Forecasts: new, duplicate (a replica said it), unknown (too little history), failed.",
            ["outcome"],
            registry=None,
        )
        self.duration_s = Histogram(
            "microopt_forecaster_forecast_duration_seconds",
            "Time that a model took for one forecast.",
            buckets=LATENCY_BUCKETS_S,
            registry=None,
        )
        self.history_slots = Gauge(
            "microopt_forecaster_history_slots",
            "Slots with known traffic that the last forecast of a slice could use.",
            ["slice"],
            registry=None,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Have these served with the agent's own."""
        for metric in (self.forecasts, self.duration_s, self.history_slots):
            registry.register(metric)
