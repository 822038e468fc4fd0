"""Table I: what each approach allocates to constant traffic."""

from microopt_testbed.experiments import paper, settings, tables
from microopt_testbed.experiments.approaches import LABELS, cost, degradation
from microopt_testbed.experiments.lab import Lab
from microopt_testbed.experiments.page import Section, paragraphs
from microopt_testbed.experiments.settings import ORACLE
from microopt_testbed.experiments.store import Outcome
from microopt_testbed.experiments.tables import NONE, markdown, number, signed_percent
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH

APPROACHES = (ORACLE, "microopt", "microopt-paper", "atlas", "cadrl", "peak")
HEADER = (
    "approach",
    "users",
    "CPU, millicores",
    "paper",
    "BW, Mbit/s",
    "paper",
    "normalised",
    "paper",
    "above oracle",
    "E(β)",
    "paper",
    "E(β) of the paper's allocation on our model",
)


def make(lab: Lab) -> Section:
    """Write table1.csv and return the table with the paper's values beside ours."""
    outcomes = lab.solve(APPROACHES, settings.table_1(lab.scale))
    floor = {one.setting: one.cost for one in outcomes[ORACLE]}
    # Peak-alloc is one allocation, for the most users.
    shown = [one for name, found in outcomes.items() for one in (found[-1:] if name == "peak" else found)]
    rows = [_row(lab, one, floor[one.setting]) for one in shown]
    tables.write_csv(lab.out / "table1.csv", HEADER, rows)
    text = paragraphs(
        f"Constant traffic, q_thresh {settings.TABLE_QOS:g} Mbit/s, β_thresh {settings.TABLE_BETA:g}. "
        '"Normalised" is η·r; the paper\'s is computed from its printed CPU and bandwidth. The last column '
        "puts the paper's printed allocation into our slice model: where it is above the threshold, our model "
        "is the more cautious of the two at that point, and where it is below, the more optimistic.",
        markdown(HEADER, [_shown(row) for row in rows]),
        lab.not_run(APPROACHES),
    )
    return Section(text)


def _row(lab: Lab, one: Outcome, floor: float) -> list[tables.Cell]:
    users = round(one.setting.mean_users)
    printed = next((row for row in paper.TABLE_1.get(one.approach, ()) if row.users == users), None)
    theirs = {GNB_CPU: printed.cpu_millicores, TRANSPORT_BANDWIDTH: printed.bandwidth_mbps} if printed else None
    return [
        LABELS[one.approach],
        users,
        one.allocation[GNB_CPU],
        printed.cpu_millicores if printed else None,
        one.allocation[TRANSPORT_BANDWIDTH],
        printed.bandwidth_mbps if printed else None,
        one.cost,
        cost(theirs) if theirs else None,
        one.cost / floor - 1.0,
        one.expected_degradation,
        printed.degradation if printed else None,
        degradation(lab.main().model, one.setting, theirs) if theirs else None,
    ]


def _shown(row: list[tables.Cell]) -> list[str]:
    digits = (0, 0, 1, 1, 2, 2, 3, 3, 0, 4, 2, 2)
    shown = [
        NONE if cell is None else cell if isinstance(cell, str) else number(cell, places)
        for cell, places in zip(row, digits, strict=True)
    ]
    above = row[8]
    shown[8] = signed_percent(above, 3) if isinstance(above, float) else NONE
    return shown
