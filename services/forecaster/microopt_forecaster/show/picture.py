"""A slice's intervals as a picture; the one module that needs matplotlib."""

import io
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from microopt_forecaster.show.rows import SHOWN_COVERAGE, Report, Row, is_another
from microopt_forecaster.show.words import duration, name

BLACK, GREY, BLUE, VERMILION = "#222222", "#8a8a8a", "#0072B2", "#D55E00"  # can be told apart by everyone
SHADES: Final = ("#cfe3f2", "#a9cde8", "#7fb4db")
"""From the widest band to the narrowest."""
UNKNOWN: Final = float("nan")


def picture(report: Report, form: str) -> bytes:
    """Return a picture of `report` in the format `png` or `svg`."""
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    edges = [x for row in report.rows for x in (_x(row), _x(row, report.interval_s))]
    _bands(axes, report, edges)
    expected = [UNKNOWN if row.expected is None else row.expected for row in report.rows]
    axes.plot(edges, _twice(expected), color=BLUE, linewidth=1.4, label="expected")
    _observed(axes, report)
    _models(axes, report)
    _frame(axes, report, edges)
    figure.legend(loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=form, dpi=120)
    return drawn.getvalue()


def _bands(axes: Axes, report: Report, edges: list[float]) -> None:
    coverages = sorted({band.coverage for row in report.rows for band in row.bands}, reverse=True)
    for place, coverage in enumerate(coverages):
        found = [next((b for b in row.bands if b.coverage == coverage), None) for row in report.rows]
        axes.fill_between(
            edges,
            _twice([band.lower if band else UNKNOWN for band in found]),
            _twice([band.upper if band else UNKNOWN for band in found]),
            color=SHADES[min(place, len(SHADES) - 1)],
            linewidth=0.0,
            label=f"{100 * coverage:g} % band",
        )


def _observed(axes: Axes, report: Report) -> None:
    over = [UNKNOWN if row.observed is None or row.state != "over" else row.observed for row in report.rows]
    middles = [_middle(row, report) for row in report.rows]
    axes.plot(middles, over, color=BLACK, linewidth=0.9, marker="o", markersize=3.2, label="observed")
    style: dict[str, Any] = {"linestyle": "none", "zorder": 3}
    if outside := _points(report, lambda row: row.outcome in ("above", "below")):
        axes.plot(*outside, marker="o", markersize=5.5, color=VERMILION, label="outside the 90 % band", **style)
    if so_far := _points(report, lambda row: row.state == "running"):
        axes.plot(*so_far, marker="o", markersize=5, color=BLACK, fillstyle="none", label="so far", **style)
    raised = [row for row in report.rows if row.raised_from is not None and row.expected is not None]
    if raised:
        places = [_middle(row, report) for row in raised], [row.expected or 0.0 for row in raised]
        axes.plot(*places, marker="^", markersize=6, color=BLUE, label="raised", **style)


def _points(report: Report, wanted: Callable[[Row], bool]) -> tuple[list[float], list[float]] | None:
    found = [
        (_middle(row, report), row.observed) for row in report.rows if row.observed is not None and wanted(row)
    ]
    return ([x for x, _ in found], [y for _, y in found]) if found else None


def _models(axes: Axes, report: Report) -> None:
    """Mark where another model takes over."""
    model: str | None = None
    for row in report.rows:
        if row.model and (model is None or is_another(row.model, model)):
            if model:
                axes.axvline(_x(row), color=GREY, linestyle=":", linewidth=1)
            axes.annotate(
                name(row.model), (_x(row), 1.0), xycoords=("data", "axes fraction"), xytext=(3, -3), fontsize=8,
                textcoords="offset points", color=GREY, va="top", parse_math=False,
            )  # fmt: skip
        model = row.model or model


def _frame(axes: Axes, report: Report, edges: list[float]) -> None:
    axes.set_title(
        f"slice {report.slice}: mean users in intervals of {duration(report.interval_s)}", loc="left", fontsize=11
    )
    axes.set_title(_held(report), loc="right", fontsize=9, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlim(edges[0], edges[-1])
    axes.margins(y=0.12)
    if axes.get_ylim()[0] < 0.5 * axes.get_ylim()[1]:
        axes.set_ylim(bottom=0.0)
    axes.set_ylabel("users")
    axes.set_xlabel("UTC")
    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]


def _held(report: Report) -> str:
    band = next((b for b in report.bands if b.of == "interval" and b.coverage == SHOWN_COVERAGE), None)
    if band is None or band.realised is None:
        return ""
    return f"the 90 % band held for {100 * band.realised:.1f} % of the last {band.judged} intervals"


def _twice(values: list[float]) -> list[float]:
    return [value for value in values for _ in range(2)]


def _middle(row: Row, report: Report) -> float:
    return _x(row, report.interval_s / 2)


def _x(row: Row, after_s: float = 0.0) -> float:
    return float(date2num(row.start + timedelta(seconds=after_s)))  # type: ignore[no-untyped-call]
