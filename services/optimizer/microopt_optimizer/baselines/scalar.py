"""The paper's ablation (§VI-C): a slice model that knows only one number for the QoS."""

from microopt_optimizer.baselines.paper import PaperSolver
from microopt_optimizer.baselines.paper_descent import PaperSettings
from microopt_optimizer.solver.answers import Plan
from microopt_optimizer.solver.pool import Pool

SCALAR_SETTINGS = PaperSettings(inner_steps=20, step=0.002, degradation_step=0.1, sharpness=20.0)
"""As β jumps, small steps on a surrogate that is less sharp come closer to the edge."""


class ScalarSolver(PaperSolver):
    """Algorithm 1 where a slot's QoS is μ − nσ for certain (μ + nσ where lower is better); a base class.

    β is then the share of user-time whose number misses the threshold: with constant traffic 0 or 1. What is
    allocated is what this method takes to be enough; E(β) and status are those of the full distribution.
    """

    scalar: float = 0.0

    def __init__(self, settings: PaperSettings | None = None) -> None:
        super().__init__(settings or SCALAR_SETTINGS)

    def reasons(self, pool: Pool, plan: Plan, met: list[bool]) -> dict[int, str]:
        """Return a sentence for each slice that is met only as long as its QoS is taken to be a number."""
        degradation = pool.degradation(plan.allocations).tolist()
        return {
            place: f"slice {one.slice}: {self.name} takes the QoS to be {self._number} and this allocation to be "
            f"enough; of the QoS's distribution {degradation[place]:.4g} is degraded, threshold "
            f"{one.sla.degradation_threshold:g}"
            for place, one in enumerate(pool.slices)
            if met[place] and not plan.shorted[place] and degradation[place] > one.sla.degradation_threshold
        }

    @property
    def _number(self) -> str:
        return f"{self.scalar:g} standard deviations worse than its mean" if self.scalar else "its mean"


class ZeroSigmaSolver(ScalarSolver):
    """MicroOpt-0σ: the QoS is its mean."""

    name = "microopt-0sigma"
    scalar = 0.0


class TwoSigmaSolver(ScalarSolver):
    """MicroOpt-2σ: the QoS is two standard deviations worse than its mean."""

    name = "microopt-2sigma"
    scalar = 2.0
