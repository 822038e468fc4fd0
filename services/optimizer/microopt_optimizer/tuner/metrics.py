"""What the tuner counts."""

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge


class TunerMetrics:
    """Metrics of the slice models in force."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.nll = Gauge(
            "microopt_model_nll",
            "Mean negative log-likelihood of the model in force: of fresh slots, and in its validation.",
            ["model", "kind"],
            registry=registry,
        )
        self.drifted = Gauge(
            "microopt_model_drifted",
            "1 where fresh slots are predicted worse than in validation by the set margin for long enough.",
            ["model"],
            registry=registry,
        )
        self.fresh_slots = Gauge(
            "microopt_model_fresh_slots", "Fresh slots that are kept of the model.", ["model"], registry=registry
        )
        self.tunings = Counter(
            "microopt_model_tunings_total",
            "Fine-tunings by outcome: promoted, offered, not_better or failed.",
            ["model", "outcome"],
            registry=registry,
        )

    def forget(self, model: str) -> None:
        """Show nothing any more of a model that no slice names."""
        shown = ((self.nll, "fresh"), (self.nll, "validation"), (self.drifted,), (self.fresh_slots,))
        for gauge, *labels in shown:
            with suppress(KeyError):  # of older clients, where nothing was shown
                gauge.remove(model, *labels)
