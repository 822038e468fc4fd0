"""What the router counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from microopt.metrics import LATENCY_BUCKETS_S


class RouterMetrics:
    """Metrics of rounds and answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._of_answers(registry)
        self._of_slices(registry)
        self._of_pools(registry)

    def _of_answers(self, registry: CollectorRegistry) -> None:
        self.answers = Counter(
            "microopt_router_answers_total",
            "Answers of optimizers: accepted, refused by the guard, or failed (late, absent, unreadable).",
            ["optimizer", "outcome"],
            registry=registry,
        )
        self.answer_s = Histogram(
            "microopt_router_answer_duration_seconds",
            "Time from asking an optimizer to its answer.",
            ["optimizer"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.checks_failed = Counter(
            "microopt_router_checks_failed_total",
            "Questions to the slice models that nobody answered, or not in time.",
            registry=registry,
        )

    def _of_slices(self, registry: CollectorRegistry) -> None:
        self.infeasible = Counter(
            "microopt_router_infeasible_total",
            "Allocations of slices whose SLA was declared not to be met.",
            ["slice"],
            registry=registry,
        )
        self.expected_degradation = Gauge(
            "microopt_router_expected_degradation_ratio",
            "Expected degradation of the last allocation.",
            ["slice"],
            registry=registry,
        )

    def _of_pools(self, registry: CollectorRegistry) -> None:
        self.unanswered = Counter(
            "microopt_router_rounds_unanswered_total",
            "Rounds whose interval ended without a usable answer of an optimizer.",
            ["pool"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "microopt_router_fallbacks_total",
            "Slices that did not take the answer they are routed to: reverted to the active's, or a fallback.",
            ["pool", "kind"],
            registry=registry,
        )
        self.untold = Counter(
            "microopt_router_untold_total",
            "Problems, answers and batches of events that could not be stored; allocations do not depend on them.",
            ["pool"],
            registry=registry,
        )
        self.leads = Gauge(
            "microopt_router_leads",
            "Whether this router leads the pool.",
            ["pool"],
            registry=registry,
        )
        self.price = Gauge(
            "microopt_router_capacity_price",
            "What one more unit of a resource would save, by the active optimizer's last answer.",
            ["pool", "resource"],
            registry=registry,
        )
