"""Approaches beside each other over many settings: means, feasibility, and distance from the oracle."""

from collections.abc import Callable, Mapping
from statistics import median

from microopt_optimizer.solver.base import DEADLINE_SHARE
from microopt_testbed.experiments import settings, tables
from microopt_testbed.experiments.approaches import DEADLINE_S, LABELS
from microopt_testbed.experiments.lab import Lab, Outcomes
from microopt_testbed.experiments.page import Glance
from microopt_testbed.experiments.settings import ORACLE, Setting
from microopt_testbed.experiments.tables import NONE, markdown, number, percent, signed_percent


def aggregates(
    outcomes: Outcomes, printed_cost: Mapping[str, float], printed_decrease: Mapping[str, float]
) -> str:
    """Return the table of means: allocation, what MicroOpt saves against each, feasibility and time."""
    header = [
        "approach",
        "mean allocation",
        "paper",
        "above oracle",
        "MicroOpt allocates less by",
        "paper",
        "mean E(β)",
        "settings held",
        "time, median s",
    ]
    rows = [_aggregate(outcomes, name, printed_cost, printed_decrease) for name in outcomes]
    return markdown(header, rows)


def _aggregate(
    outcomes: Outcomes, name: str, printed_cost: Mapping[str, float], printed_decrease: Mapping[str, float]
) -> list[str]:
    found, own, floor = outcomes[name], outcomes.cost(name), outcomes.cost(ORACLE)
    above = own / floor - 1.0 if own is not None and floor else None
    return [
        LABELS[name],
        number(own, 4),
        number(printed_cost.get(name)),
        NONE if name == ORACLE else percent(above),
        NONE if name in (ORACLE, "microopt") else percent(outcomes.decrease("microopt", name)),
        percent(printed_decrease.get(name)),
        number(outcomes.degradation(name)),
        f"{sum(one.holds for one in found)} of {len(found)}",
        NONE if name == ORACLE else f"{median(one.solve_s for one in found):.3g}",
    ]


def glances(
    traffic: str, outcomes: Outcomes, printed_cost: Mapping[str, float], printed_decrease: Mapping[str, float]
) -> list[Glance]:
    """Return the summary's lines on one kind of traffic: MicroOpt's allocation, and what it saves."""
    own, floor = (number(outcomes.cost(name), 4) for name in ("microopt", ORACLE))
    lines = [Glance(f"{traffic}: MicroOpt's mean allocation", number(printed_cost.get("microopt")), own, floor)]
    for name, printed in printed_decrease.items():
        ours, best = (percent(outcomes.decrease(one, name)) for one in ("microopt", ORACLE))
        lines.append(Glance(f"{traffic}: less than {LABELS[name]} by", percent(printed), ours, best))
    return lines


def exactness(outcomes: Outcomes) -> str:
    """Return how near MicroOpt comes to the oracle, and whether any approach allocates less in any setting."""
    if "microopt" not in outcomes:
        return ""
    pairs = list(zip(outcomes["microopt"], outcomes[ORACLE], strict=True))
    can_be_held = [(ours, floor) for ours, floor in pairs if floor.status != "infeasible"]
    gaps = [ours.cost / floor.cost - 1.0 for ours, floor in can_be_held if ours.holds]
    text = []
    if gaps:
        text.append(
            f"MicroOpt against the oracle, setting by setting: median gap {signed_percent(median(gaps))}, "
            f"greatest {signed_percent(max(gaps))}, least {signed_percent(min(gaps))}."
        )
    if len(gaps) < len(can_be_held):
        text.append(f"MicroOpt does not hold {len(can_be_held) - len(gaps)} settings that can be held.")
    if len(can_be_held) < len(pairs):
        text.append(f"In {len(pairs) - len(can_be_held)} settings no allocation within the bounds holds the SLA.")
    others = [name for name in outcomes if name not in (ORACLE, "microopt")]
    text += [sentence for name in others for sentence in _beside(outcomes, name)]
    if others and not any(_less(outcomes, name) for name in others):
        text.append("No other approach holds the SLA with less in any setting.")
    return " ".join(text)


def _beside(outcomes: Outcomes, name: str) -> list[str]:
    """Return whether an approach was cut short, and where it allocates less than MicroOpt."""
    text = []
    cut = sum(one.solve_s >= DEADLINE_SHARE * DEADLINE_S for one in outcomes[name])
    if cut:
        text.append(f"{LABELS[name]} was cut short by its deadline of {DEADLINE_S:g} s in {cut} settings.")
    if less := _less(outcomes, name):
        most = f"by {100 * max(less):.4f} % at most"
        text.append(f"{LABELS[name]} holds the SLA with less in {len(less)} settings, {most}.")
    return text


def _less(outcomes: Outcomes, name: str) -> list[float]:
    """Return by what share of MicroOpt's cost an approach holds the SLA with less, where it does."""
    return [
        1.0 - theirs.cost / ours.cost
        for ours, theirs in zip(outcomes["microopt"], outcomes[name], strict=True)
        if theirs.holds and theirs.cost < ours.cost
    ]


def write_outcomes(lab: Lab, file: str, outcomes: Outcomes) -> None:
    """Write one line for each approach and setting."""
    header = (
        "approach", "users", "weights", "qos_threshold_mbps", "degradation_threshold", *settings.UNITS,
        "normalised_allocation", "expected_degradation", "status", "solve_s",
    )  # fmt: skip
    rows: list[list[tables.Cell]] = [
        [
            name,
            " ".join(f"{users:g}" for users in one.setting.users),
            " ".join(f"{weight:.6g}" for weight in one.setting.weights),
            one.setting.qos_threshold,
            one.setting.degradation_threshold,
            *(one.allocation[resource] for resource in settings.UNITS),
            one.cost,
            one.expected_degradation,
            one.status,
            round(one.solve_s, 4),
        ]
        for name, found in outcomes.items()
        for one in found
    ]
    tables.write_csv(lab.out / file, header, rows)


def by(outcomes: Outcomes, part: Callable[[Setting], float]) -> dict[str, Outcomes]:
    """Return the outcomes in groups of equal `part`, named by it."""
    everything = [one.setting for one in next(iter(outcomes.values()))]
    values = sorted({part(setting) for setting in everything})
    return {
        f"{value:g}": outcomes.only([setting for setting in everything if part(setting) == value])
        for value in values
    }
