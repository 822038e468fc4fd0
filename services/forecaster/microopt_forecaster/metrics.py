"""What the forecaster counts beside what every agent does."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from microopt.messages import Forecast
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
        self.history_steps = Gauge(
            "microopt_forecaster_history_steps",
            "Steps with known traffic that the last forecast of a slice could use.",
            ["slice"],
            registry=None,
        )
        self.coverage = Gauge(
            "microopt_forecaster_coverage_ratio",
            "Share of a slice's last intervals for which its bands held, by what they claim.",
            ["slice", "claimed"],
            registry=None,
        )
        self.raised = Counter(
            "microopt_forecaster_raised_total",
            "Forecasts that were raised because more traffic was observed than the last one allowed for.",
            ["slice"],
            registry=None,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Have these served with the agent's own."""
        for metric in (self.forecasts, self.duration_s, self.history_steps, self.coverage, self.raised):
            registry.register(metric)

    def judge(self, forecast: Forecast) -> None:
        """Note how far the bands of a slice held lately, and whether its traffic was raised."""
        for band in forecast.bands:
            if band.of == "slot" and band.realised is not None:
                self.coverage.labels(forecast.slice, f"{band.coverage:g}").set(band.realised)
        if forecast.raised_from is not None:
            self.raised.labels(forecast.slice).inc()
