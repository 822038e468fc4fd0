"""A closed loop's outcome as a table for people."""

from rich.console import Console
from rich.table import Table

from microopt_testbed.live.outcome import LoopOutcome


def print_outcome(outcome: LoopOutcome, console: Console) -> None:
    """Print each pair of thresholds, and what did not work."""
    scale = outcome.scale
    table = Table(
        title=f"a Mbit/s of the paper is {scale.factor:g} here, at {scale.millicores_per_mbps:g} millicores each",
        title_justify="left",
    )
    for heading in ("q_thresh", "Mbit/s", "β_thresh", "realised", "cost", "peak", "saved", "users"):
        table.add_column(heading, justify="right")
    for one in outcome.pairs:
        realised = f"{one.degradation:.3f}"
        table.add_row(
            f"{one.paper_qos_threshold:g}",
            f"{one.qos_threshold:g}",
            f"{one.degradation_threshold:g}",
            f"[red]{realised}[/]" if one.degradation > one.degradation_threshold else realised,
            f"{one.cost:.3f}",
            f"{one.cost_peak:.3f}",
            f"{one.saving:.1%}",
            f"{one.users:.1f}",
        )
    console.print(table)
    states = ", ".join(f"{count} {state}" for state, count in sorted(outcome.states.items()))
    console.print(f"saved against Peak-alloc: {outcome.saving_vs_peak:.1%}; actuator: {states}", highlight=False)
    for problem in outcome.problems:
        console.print(f"[red]{problem}[/]", highlight=False)
