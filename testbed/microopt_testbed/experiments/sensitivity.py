"""How much of the numbers of figure 6 is the slice model's: the same settings on other models."""

from collections.abc import Iterator
from statistics import fmean

from msgspec.structs import replace

from microopt_testbed.experiments import paper, settings, tables
from microopt_testbed.experiments.lab import Lab
from microopt_testbed.experiments.models import TITLES, Fitted
from microopt_testbed.experiments.page import Section, paragraphs
from microopt_testbed.experiments.tables import markdown, number, percent

HEADER = ("slice model", "seed", "test MSE", "MicroOpt, mean allocation", "Peak-alloc", "less by", "settings held")


def make(lab: Lab) -> Section:
    """Write sensitivity.csv and return, for each slice model, what MicroOpt and Peak-alloc allocate on it."""
    rows = [_row(lab, name, one) for name, one in _models(lab)]
    tables.write_csv(lab.out / "sensitivity.csv", HEADER, rows)
    costs, decreases = [float(row[3] or 0.0) for row in rows], [float(row[5] or 0.0) for row in rows]
    printed, printed_decrease = paper.CONSTANT_COST["microopt"], paper.CONSTANT_DECREASE["peak"]
    inside = min(costs) <= printed <= max(costs)
    text = paragraphs(
        "The paper's model is not published, and training is not deterministic across implementations. The "
        "same settings on models that differ in the seed, in the architecture, and in whether the rows before "
        "the slice had settled are kept:",
        markdown(HEADER, [_shown(row) for row in rows]),
        f"The paper prints {printed:g} and {percent(printed_decrease)}: its mean allocation lies "
        f"{'within' if inside else 'outside'} the range of these models, {min(costs):.3f} to "
        f"{max(costs):.3f}. Their decreases against Peak-alloc range from {percent(min(decreases))} to "
        f"{percent(max(decreases))}.",
    )
    return Section(text)


def _models(lab: Lab) -> Iterator[tuple[str, Fitted]]:
    for preset in ("paper", "default"):
        for one in lab.fitted(preset):
            yield TITLES[preset], one
    if not lab.source.is_emulated and lab.source.settle_s > 0.0:
        unsettled = replace(lab.source, settle_s=0.0)
        for one in lab.fitted("paper", unsettled):
            yield f"{TITLES['paper']}, unsettled rows kept", one


def _row(lab: Lab, name: str, one: Fitted) -> list[tables.Cell]:
    wanted = settings.constant(lab.scale)
    ours = lab.solve(["microopt"], wanted, one)["microopt"]
    peak = lab.solve(["peak"], wanted[-1:], one).cost("peak")
    mean = fmean(each.cost for each in ours)
    test = one.model.header.metrics.get("test")
    held = f"{sum(each.holds for each in ours)} of {len(ours)}"
    decrease = 1.0 - mean / peak if peak else None
    return [name, one.training.seed, test.mse if test else None, mean, peak, decrease, held]


def _shown(row: list[tables.Cell]) -> list[str]:
    name, seed, mse, mean, peak, decrease, held = row
    numbers = [number(value, 3) if isinstance(value, float) else tables.NONE for value in (mse, mean, peak)]
    return [
        str(name), str(seed), *numbers, percent(decrease if isinstance(decrease, float) else None), str(held),
    ]  # fmt: skip
