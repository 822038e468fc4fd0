"""Figure 10 from real traffic: the degradation that the closed loop realises on the live testbed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from microopt.errors import ConfigError
from microopt_testbed.experiments import paper, style, tables
from microopt_testbed.experiments.fig10 import panel
from microopt_testbed.experiments.page import paragraphs
from microopt_testbed.experiments.tables import markdown, number, percent
from microopt_testbed.live import play
from microopt_testbed.live.outcome import LoopOutcome, PairOutcome
from microopt_testbed.live.play import Pace

PAGE: Final = "fig10-live.md"
HEADER: Final = (
    "q_thresh of the paper, Mbit/s", "here, Mbit/s", "β_thresh", "β realised", "paper", "mean allocation",
    "Peak-alloc", "saved", "slots", "mean users",
)  # fmt: skip


def make(folder: Path, pages: Sequence[Path], pace: Pace, console: Console) -> LoopOutcome:
    """Write `pages`, a picture and a table beside each, of what was played in `folder`; play it first if needed.

    Raises:
        ConfigError: `folder` lacks measurements or model, the testbed cannot run here, or nothing can be written.
    """
    outcome = play.played_before(folder, pace)
    if outcome is None:
        with Progress(console=console) as bar:
            task = bar.add_task("playing", total=1.0)
            outcome = play.play(folder, pace, lambda share: bar.update(task, completed=share))
    for page in pages:
        _write(outcome, page)
    return outcome


def _write(outcome: LoopOutcome, page: Path) -> None:
    picture = page.with_suffix(".png")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        tables.write_csv(page.with_suffix(".csv"), HEADER, [_row(one) for one in outcome.pairs])
        _draw(outcome, picture)
        page.write_text(_page(outcome, picture.name) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename or page}: cannot be written: {error.strerror}") from error


def _row(one: PairOutcome) -> list[tables.Cell]:
    return [
        one.paper_qos_threshold,
        one.qos_threshold,
        one.degradation_threshold,
        one.degradation,
        _printed(one),
        one.cost,
        one.cost_peak,
        one.saving,
        one.slots,
        one.users,
    ]


def _printed(one: PairOutcome) -> str:
    pair = one.degradation_threshold, one.paper_qos_threshold
    return "above" if pair in paper.ABOVE_THRESHOLD else "not above"


def _page(outcome: LoopOutcome, picture: str) -> str:
    scale = outcome.scale
    above = [one for one in outcome.pairs if one.degradation > one.degradation_threshold]
    return paragraphs(
        "# Figure 10, on the live testbed",
        f"![QoS degradation on the live testbed]({picture})",
        "Real packets through Open vSwitch and a gNB process with a CPU quota, on one machine: a Mbit/s of the "
        f"paper is {scale.factor:g} here, and one here costs a gNB {scale.millicores_per_mbps:g} millicores. "
        "Traffic of two Milan squares, forecast, allocated and put in force by the agents, interval by interval; "
        "each pair of thresholds is one slice's SLA for a while. "
        f"{len(above)} of {len(outcome.pairs)} are above their threshold; "
        f"{percent(outcome.saving_vs_peak, 1)} less is allocated than by Peak-alloc.",
        markdown(HEADER, [_shown(one) for one in outcome.pairs]),
        *(f"**{problem}**" for problem in outcome.problems),
    )


def _shown(one: PairOutcome) -> list[str]:
    realised = number(one.degradation)
    return [
        f"{one.paper_qos_threshold:g}",
        f"{one.qos_threshold:g}",
        f"{one.degradation_threshold:g}",
        f"**{realised}**" if one.degradation > one.degradation_threshold else realised,
        _printed(one),
        number(one.cost),
        number(one.cost_peak),
        percent(one.saving, 1),
        str(one.slots),
        number(one.users, 1),
    ]


def _draw(outcome: LoopOutcome, path: Path) -> None:
    realised = {
        (one.qos_threshold, one.degradation_threshold): one.degradation
        for one in outcome.pairs
        if math.isfinite(one.degradation)
    }
    if not realised:
        raise ConfigError("nothing is known of what users got; see the agents' logs")
    qos = sorted({pair[0] for pair in realised})
    betas = sorted({beta for _, beta in realised if all((one, beta) in realised for one in qos)})
    figure, (axes, *_) = style.panels(1, width=6.5, height=3.6)
    top = 1.12 * max([*realised.values(), *betas])
    panel(axes, qos, betas, realised, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("β_thresh")
    axes.set_ylabel("β realised on the live testbed")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8)
    style.save(figure, path)
