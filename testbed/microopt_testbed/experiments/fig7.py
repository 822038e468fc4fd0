"""Figures 5, 7 and 8: traffic that varies within an interval, as ten distributions from a week in Milan."""

from microopt_testbed.experiments import comparison, distributions, paper, style, tables
from microopt_testbed.experiments.distributions import PEAK_USERS, Reading, Week, truncated_normal
from microopt_testbed.experiments.lab import Lab, Outcomes
from microopt_testbed.experiments.page import Section, paragraphs
from microopt_testbed.experiments.settings import ORACLE, TABLE_BETA, TABLE_QOS, Setting
from microopt_testbed.experiments.tables import markdown, number, percent
from microopt_testbed.traffic import SQUARES

APPROACHES = (
    ORACLE, "microopt", "microopt-paper", "atlas-plus", "cadrl-plus", "atlas", "cadrl", "peak",
)  # fmt: skip
READING_HEADER = (
    "standard deviation", "square", "σ_mean, users", "σ_max, users",
    "MicroOpt, mean allocation", "less than Peak-alloc by",
)  # fmt: skip


def make(lab: Lab) -> Section:
    """Write the pictures and csv files of figures 5, 7 and 8; return the aggregates beside the paper's."""
    week = distributions.week(lab.milan)
    chosen = week.chosen()
    groups = {name: _settings(lab, sigma) for name, sigma in _sigmas(chosen).items()}
    outcomes = lab.solve(APPROACHES, [setting for group in groups.values() for setting in group])
    comparison.write_outcomes(lab, "fig7.csv", outcomes)
    _draw_traffic(lab, week, chosen)
    _draw(lab, {name: outcomes.only(group) for name, group in groups.items()})
    text = paragraphs(
        _choices(week, chosen),
        "![A week of traffic and the ten distributions]({images}/fig5.png)",
        "![Allocation by spread of the traffic]({images}/fig7.png)",
        "![QoS degradation by spread of the traffic]({images}/fig8.png)",
        f"Means over the {len(outcomes[ORACLE])} distributions, q_thresh {TABLE_QOS:g} Mbit/s, β_thresh "
        f"{TABLE_BETA:g}. E(β) is that under the true distribution, whatever an approach planned for.",
        comparison.aggregates(outcomes, {}, paper.DYNAMIC_DECREASE),
        comparison.exactness(outcomes),
        lab.not_run(APPROACHES),
        _readings(lab),
    )
    glances = comparison.glances("Traffic that varies", outcomes, {}, paper.DYNAMIC_DECREASE)
    return Section(text, ("fig5.png", "fig7.png", "fig8.png"), glances)


def _sigmas(reading: Reading) -> dict[str, float]:
    return {
        f"σ_mean = {reading.sigma_mean:.2f}": reading.sigma_mean,
        f"σ_max = {reading.sigma_max:.2f}": reading.sigma_max,
    }


def _settings(lab: Lab, sigma: float) -> list[Setting]:
    return distributions.spread_settings(lab.scale, sigma, TABLE_QOS, TABLE_BETA)


def _choices(week: Week, chosen: Reading) -> str:
    return (
        f"§VI-A3 leaves open which cell and week it took, over what stretch of time its standard deviations are, "
        f"and where the normal distributions are truncated. Chosen here: the {week.source}, "
        f"scaled to a peak of {PEAK_USERS} users; the standard deviation {chosen.meaning} (mean over "
        f"the hours σ_mean = {chosen.sigma_mean:.3f}, maximum σ_max = {chosen.sigma_max:.3f} users), since the "
        f"paper speaks of hourly variation and reconfigures by the hour; whole numbers of users from 1 to "
        f"{PEAK_USERS}, without those that are expected in less than one of an interval's "
        f"{distributions.SLOTS_AN_INTERVAL:,} slots, so that approaches that plan for the peak need not plan for "
        "what never comes. Other readings are below."
    )


def _readings(lab: Lab) -> str:
    """Return what MicroOpt saves against Peak-alloc by each reading of the paper's σ, for each square at hand."""
    rows: list[list[str]] = []
    table: list[list[tables.Cell]] = []
    for square in SQUARES:
        for reading in distributions.week(lab.milan, square).readings():
            wanted = [setting for sigma in _sigmas(reading).values() for setting in _settings(lab, sigma)]
            ours = lab.solve(["microopt", "peak"], wanted)
            mean, less = ours.cost("microopt"), ours.decrease("microopt", "peak")
            table.append([reading.meaning, square, reading.sigma_mean, reading.sigma_max, mean, less])
            rows.append(
                [reading.meaning, str(square), number(reading.sigma_mean), number(reading.sigma_max), number(mean),
                 percent(less)]
            )  # fmt: skip
    tables.write_csv(lab.out / "fig7_readings.csv", READING_HEADER, table)
    printed = paper.DYNAMIC_DECREASE["peak"]
    return (
        f"How much is saved depends on σ more than on anything else. The paper prints {percent(printed)} against "
        f"Peak-alloc, and no σ:\n\n{markdown(READING_HEADER, rows)}"
    )


def _draw_traffic(lab: Lab, week: Week, chosen: Reading) -> None:
    figure, (left, right) = style.panels(2, width=9.0, height=3.0)
    left.plot([index / 144 for index in range(week.users.size)], week.users, color=style.BLUE, linewidth=0.8)
    left.set_xticks([day + 0.5 for day in range(7)], ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    left.set_ylabel(f"traffic, scaled to {PEAK_USERS} users")
    left.set_title(week.source, loc="left", fontsize=9)
    left.set_ylim(0, None)
    for sigma, look in ((chosen.sigma_mean, "-"), (chosen.sigma_max, ":")):
        for centre, color in zip(lab.scale.users, style.SEQUENCE, strict=False):
            users, weights = truncated_normal(centre, sigma)
            label = f"centre {centre}" if look == "-" else None
            right.plot(users, weights, look, color=color, marker="o", markersize=3, linewidth=1.2, label=label)
    right.set_xlabel("users in a slot")
    right.set_ylabel("probability")
    right.set_xticks(range(1, PEAK_USERS + 1))
    right.set_title("solid: σ_mean, dotted: σ_max", loc="left", fontsize=9)
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    style.save(figure, lab.out / "fig5.png")


def _draw(lab: Lab, groups: dict[str, Outcomes]) -> None:
    names = list(next(iter(groups.values())))
    figure, (axes,) = style.panels(1, width=8.5, height=4.2)
    style.allocation_bars(axes, groups)
    axes.set_xlabel("standard deviation of the traffic, users (mean over centres)")
    style.legend(figure, names)
    style.save(figure, lab.out / "fig7.png")
    figure, (axes,) = style.panels(1, width=8.5, height=3.6)
    style.degradation_bars(axes, groups, [TABLE_BETA] * len(groups))
    axes.set_xlabel("standard deviation of the traffic, users (mean over centres)")
    style.legend(figure, names, shares=False, threshold=True)
    style.save(figure, lab.out / "fig8.png")
