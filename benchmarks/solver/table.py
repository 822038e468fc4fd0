"""Results as rows of text, for the terminal and for README.md."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

Rows = tuple[str, list[str], list[list[str]]]
"""Title, header and rows."""


def tables(results: Mapping[str, Any]) -> list[Rows]:
    """Return a table of each part."""
    return [_single(results["single"]), _suite(results["suite"]), _joint(results["joint"])]


def on_terminal(results: Mapping[str, Any]) -> Group:
    """Return the tables for rich."""
    drawn = []
    for title, header, rows in tables(results):
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row)
        drawn.append(table)
    return Group(*drawn)


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return the tables for README.md."""
    parts = []
    for title, header, rows in tables(results):
        lines = [header, ["---"] * len(header), *rows]
        parts.append(f"{title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def _single(single: Mapping[str, Any]) -> Rows:
    many = single["settings"]
    header = ["", "ms, median", "gap, median", "gap, largest", f"feasible of {many}"]
    cold = {**single, "ms_p50": single["cold_ms_p50"]}
    warm = {name: single[f"warm_{name}"] for name in ("ms_p50", "gap_median", "gap_max", "feasible")}
    rows = [["microopt, cold", *_row(cold)], ["microopt, warm", *_row(warm)]]
    rows += [[name, *_row(peer)] for name, peer in single["peers"].items()]
    return f"{many} constant settings, gap above a dense grid with polish", header, rows


def _suite(suite: Mapping[str, Any]) -> Rows:
    header = ["resources", "", "ms, median", "gap, median", "gap, largest", "feasible"]
    rows = []
    for resources, one in suite.items():
        for name, each in [("microopt", one), *one["peers"].items()]:
            *cells, feasible = _row(each)
            rows.append([resources, name, *cells, f"{feasible} of {one['problems']}"])
    return "Synthetic slices, gap above the best that anything found", header, rows


def _joint(joint: Mapping[str, Any]) -> Rows:
    header = ["slices", "cold s", "warm s", "gap to the dual bound, cold", "warm", "feasible", "peak RSS MB"]
    rows = [
        [
            f"{one['slices']:,}",
            f"{one['cold_s']:.3g}",
            f"{one['warm_s']:.3g}",
            _share(one["cold_gap_to_dual_bound"]),
            _share(one["gap_to_dual_bound"]),
            f"{one['feasible']:,}",
            f"{one['peak_rss_mb']:,.0f}",
        ]
        for one in joint["growth"]
    ]
    return "Joint pools with scarce bandwidth, slices of distinct models", header, rows


def _row(one: Mapping[str, Any]) -> list[str]:
    return [_ms(one["ms_p50"]), _share(one["gap_median"]), _share(one["gap_max"]), str(one["feasible"])]


def _ms(ms: float) -> str:
    return f"{ms:.1f}" if ms < 100.0 else f"{ms:,.0f}"


def _share(gap: float | None) -> str:
    # Zero is added so that none is shown as negative.
    return "" if gap is None else f"{round(100.0 * gap, 4) + 0.0:.4f} %"
