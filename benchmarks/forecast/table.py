"""Results as rows of text, for the terminal and for README.md."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group
from rich.table import Table

Rows = tuple[str, list[str], list[list[str]]]
"""Title, header and rows."""

NUMBERS: Final = {
    "mase_168": "MASE, last week",
    "mase_336": "both weeks",
    "pinball": "pinball",
    "coverage_80": "in 80 %",
    "coverage_90": "in 90 %",
    "coverage_95": "in 95 %",
    "coverage_90_slots": "slots in 90 %",
    "fit_s": "fit s",
    "update_s": "update ms",
}


def tables(results: Mapping[str, Any]) -> list[Rows]:
    """Return a table of each trace and horizon, and one of the scale part."""
    found = []
    for trace, horizon in dict.fromkeys((row["trace"], row["horizon"]) for row in results.get("rows", ())):
        rows = [row for row in results["rows"] if (row["trace"], row["horizon"]) == (trace, horizon)]
        ahead = "1 interval ahead" if horizon == 1 else f"{horizon} intervals ahead"
        found.append((f"{trace}, {ahead}", ["", *NUMBERS.values()], [_row(row) for row in rows]))
    return found + ([_scale(results["scale"])] if "scale" in results else [])


def on_terminal(results: Mapping[str, Any]) -> Group:
    """Return the tables for a terminal."""
    shown = []
    for title, header, rows in tables(results):
        table = Table(title=title, title_justify="left")
        for name in header:
            table.add_column(name, justify="left" if not name else "right")
        for row in rows:
            table.add_row(*row)
        shown.append(table)
    return Group(*shown, *notes(results))


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return the tables for README.md."""
    parts = []
    for title, header, rows in tables(results):
        lines = [header, ["---"] * len(header), *rows]
        parts += [f"{title}:", "\n".join(f"| {' | '.join(cells)} |" for cells in lines)]
    return "\n\n".join([*parts, *notes(results)])


def notes(results: Mapping[str, Any]) -> list[str]:
    """Return what the tables leave out."""
    models = {row["model"] for row in results.get("rows", ())}
    return (
        ["Without NeuralProphet (`--without-neuralprophet`)."] if models and "neuralprophet" not in models else []
    )


def _row(row: Mapping[str, Any]) -> list[str]:
    shares = [
        f"{100.0 * row[name]:.1f} %" if name in row else "" for name in NUMBERS if name.startswith("coverage")
    ]
    errors = [_error(row[name]) for name in ("mase_168", "mase_336", "pinball")]
    return [row["model"], *errors, *shares, f"{row['fit_s']:.2g}", f"{1e3 * row['update_s']:.1f}"]


def _error(error: float) -> str:
    return f"{error:.3f}" if error < 1000.0 else f"{error:.0e}"  # intervals may explode


def _scale(scale: Mapping[str, Any]) -> Rows:
    header = ["slices", "replicas", "mean s an interval", "worst s", "one cold start s", "peak RSS MB"]
    row = [
        f"{scale['slices']:,}",
        str(scale["replicas"]),
        f"{scale['update_mean_s']:.2f}",
        f"{scale['update_s']:.2f}",
    ]
    row += [f"{scale['cold_start_of_one_s']:.2f}", f"{scale['rss_mb']:,.0f}"]
    return "All slices of a deployment, over a day of intervals", header, [row]
