"""Figure 6: allocation and QoS degradation under constant traffic, over 3 × 3 thresholds and 1 to 5 users."""

from collections.abc import Sequence

from microopt_testbed.experiments import comparison, paper, settings, style
from microopt_testbed.experiments.lab import Lab, Outcomes
from microopt_testbed.experiments.page import Section, paragraphs
from microopt_testbed.experiments.settings import ORACLE

APPROACHES = (ORACLE, "microopt", "microopt-paper", "atlas", "cadrl", "peak")


def make(lab: Lab) -> Section:
    """Write fig6ab.png, fig6c.png and fig6.csv; return the aggregates beside the paper's."""
    outcomes = lab.solve(APPROACHES, settings.constant(lab.scale))
    comparison.write_outcomes(lab, "fig6.csv", outcomes)
    _draw_allocation(lab, outcomes)
    _draw_degradation(lab, outcomes)
    text = paragraphs(
        "![Allocation by threshold]({images}/fig6ab.png)",
        "![QoS degradation by threshold]({images}/fig6c.png)",
        f"Means over the {len(outcomes[ORACLE])} settings: users {_span(lab.scale.users)} × q_thresh "
        f"{_span(lab.scale.qos_thresholds)} Mbit/s × β_thresh {_span(lab.scale.degradation_thresholds)}. "
        'As in the paper, "less by" compares means: 1 − MicroOpt / other.',
        comparison.aggregates(outcomes, paper.CONSTANT_COST, paper.CONSTANT_DECREASE),
        comparison.exactness(outcomes),
        lab.not_run(APPROACHES),
    )
    glances = comparison.glances("Constant traffic", outcomes, paper.CONSTANT_COST, paper.CONSTANT_DECREASE)
    return Section(text, ("fig6ab.png", "fig6c.png"), glances)


def _draw_allocation(lab: Lab, outcomes: Outcomes) -> None:
    figure, (left, right) = style.panels(2, width=11.0, height=4.2)
    style.allocation_bars(left, comparison.by(outcomes, lambda s: s.qos_threshold))
    left.set_xlabel("q_thresh in Mbit/s (mean over β_thresh and users)")
    style.allocation_bars(right, comparison.by(outcomes, lambda s: s.degradation_threshold))
    right.set_xlabel("β_thresh (mean over q_thresh and users)")
    style.legend(figure, list(outcomes))
    style.save(figure, lab.out / "fig6ab.png")


def _draw_degradation(lab: Lab, outcomes: Outcomes) -> None:
    figure, (axes,) = style.panels(1, width=7.5, height=3.6)
    groups = comparison.by(outcomes, lambda s: s.degradation_threshold)
    style.degradation_bars(axes, groups, lab.scale.degradation_thresholds)
    axes.set_xlabel("β_thresh (mean over q_thresh and users)")
    style.legend(figure, list(outcomes), shares=False, threshold=True)
    style.save(figure, lab.out / "fig6c.png")


def _span(values: Sequence[float]) -> str:
    return "{" + ", ".join(f"{value:g}" for value in values) + "}"
