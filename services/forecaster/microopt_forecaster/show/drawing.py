"""A slice's intervals as lines of text: numbers, and a bar with the band, what was expected and what came."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

import click

from microopt_forecaster.show.rows import SHOWN_COVERAGE, Report, Row, is_another
from microopt_forecaster.show.scale import Scale, scale
from microopt_forecaster.show.words import clock, decimals, duration, name

LEAST_CELLS: Final = 16
MOST_CELLS: Final = 120
GAP: Final = "gap"
UNKNOWN: Final = "-"


@dataclass(frozen=True)
class Signs:
    """The characters that bars are made of; all are one cell wide."""

    band: str = "░"
    expected: str = "│"
    inside: str = "●"
    outside: str = "✗"
    so_far: str = "○"
    tick: str = "┼"
    line: str = "─"
    grid: str = "·"


UTF8: Final = Signs()
ASCII: Final = Signs(band="=", expected="|", inside="o", outside="X", so_far="?", tick="+", line="-", grid=".")

_COLOURS: Final = {"band": "blue", "expected": "cyan", "inside": "green", "outside": "red", "so_far": "yellow"}


def signs_for(encoding: str | None) -> Signs:
    """Return the signs that a terminal of this encoding can show."""
    try:
        "".join(vars(UTF8).values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UTF8


def draw(report: Report, width: int, signs: Signs = UTF8) -> list[str]:
    """Return the lines for a terminal of `width` columns, with ANSI colours."""
    table = _Table(report, width, signs)
    return [*_head(report, signs), "", *table.lines(), "", *_foot(report)]


class _Table:
    """The rows in columns: time, observed, expected, bar, remark."""

    def __init__(self, report: Report, width: int, signs: Signs) -> None:
        self._report, self._signs = report, signs
        self._remarks = [_remark(row) for row in report.rows]
        users = [number for row in report.rows for number in _users(row)]
        self._decimals = decimals(max(users, default=0.0))
        self._time = len(_when(report.rows[0].start, report.interval_s, None))
        self._number = max(8, *(len(self._users(number)) for number in (*users, 0.0)))
        remark = max(map(len, self._remarks))
        rest = width - self._time - 2 * (self._number + 2) - 2 - (remark + 2 if remark else 0)
        self._scale = scale(users, min(MOST_CELLS, max(LEAST_CELLS, rest)))

    def lines(self) -> Iterator[str]:
        """Yield the scale, and a line for each row; a line tells where another model takes over."""
        yield from self._axis()
        before: Row | None = None
        model: str | None = None
        for row, remark in zip(self._report.rows, self._remarks, strict=True):
            if model and row.model and is_another(row.model, model):
                yield (
                    self._margin()
                    + f"{2 * self._signs.line} {name(row.model)} from here on, before: {name(model)}"
                )
            model = row.model or model
            yield self._row(row, before, remark)
            before = row

    def _axis(self) -> Iterator[str]:
        labels, line = [" "] * self._scale.cells, [self._signs.line] * self._scale.cells
        end = -1
        for cell, label in self._scale.ticks.items():
            line[cell] = self._signs.tick
            begin = min(cell, self._scale.cells - len(label))
            if begin > end:
                end = begin + len(label)
                labels[begin:end] = label
        numbers = "".join(f"{text:>{self._number}}  " for text in ("observed", "expected"))
        yield f"{'UTC':<{self._time}}  {numbers}{''.join(labels)}".rstrip()
        yield self._margin() + "".join(line)

    def _row(self, row: Row, before: Row | None, remark: str) -> str:
        when = _when(row.start, self._report.interval_s, before.start if before else None)
        bar = _coloured(_bar(row, self._scale), self._signs)
        text = f"{when:>{self._time}}  {self._observed(row):>{self._number}}  "
        text += f"{self._users(row.expected):>{self._number}}  {bar}"
        return f"{text}  {remark}" if remark else text.rstrip()

    def _observed(self, row: Row) -> str:
        if row.observed is not None:
            return self._users(row.observed)
        return GAP if row.state == "over" else ""

    def _users(self, number: float | None) -> str:
        return UNKNOWN if number is None else f"{number:.{self._decimals}f}"

    def _margin(self) -> str:
        return " " * (self._time + 2 * self._number + 6)


def _head(report: Report, signs: Signs) -> Iterator[str]:
    chosen = "auto" if report.forecast_model == "auto" else "named in its spec"
    yield click.style(
        f"slice {report.slice}: intervals of {duration(report.interval_s)}, slots of {duration(report.slot_s)}, "
        f"model {name(report.model)} ({chosen})",
        bold=True,
    )
    legend = {
        "band": f"{_percent(SHOWN_COVERAGE)} band of the mean",
        "expected": "expected",
        "inside": "observed",
        "outside": "outside the band",
    }
    yield "  ".join(f"{_coloured([role], signs)} {text}" for role, text in legend.items())


def _foot(report: Report) -> Iterator[str]:
    yield from _coverage(report)
    yield from _outcome(report)
    for note in report.notes:
        yield click.style(f"! {note}", fg="yellow")


def _coverage(report: Report) -> Iterator[str]:
    """Yield what the newest forecast's bands claim, and for how much of the last intervals they held."""
    bands = report.bands
    claims = sorted({band.coverage for band in bands})
    if not claims:
        return
    yield f"{'claimed':<22}" + "".join(f"{_percent(claim):>9}" for claim in claims)
    for of, what in (("interval", "held for the mean"), ("slot", "held for slots")):
        found = {band.coverage: band for band in bands if band.of == of}
        if not found:
            continue
        held = [found[claim].realised if claim in found else None for claim in claims]
        judged = max(band.judged for band in found.values())
        shares = "".join(f"{UNKNOWN if share is None else f'{100 * share:.1f} %':>9}" for share in held)
        yield f"{what:<22}{shares}   of the last {judged} intervals"


def _outcome(report: Report) -> Iterator[str]:
    found = report.summary
    yield f"of those shown, inside the {_percent(SHOWN_COVERAGE)} band: {found.inside} of {found.judged}"
    if found.mean_absolute_error is not None:
        error = f"{found.mean_absolute_error:.{decimals(found.mean_absolute_error)}f} users"
        share = "" if found.relative_error is None else f", {100 * found.relative_error:.1f} % of those observed"
        yield f"mean absolute error {error}{share}"


def _remark(row: Row) -> str:
    """Return what is to be said of a row in a word or two."""
    words: list[str] = [row.outcome] if row.outcome in ("above", "below") else []
    if row.state == "coming":
        words.append("to come")
    elif row.state == "running":
        words.append("so far" if row.observed is not None else "running")
    if row.expected is None:
        words.append("no forecast")
    if row.raised_from is not None:
        words.append("raised")
    return ", ".join(words)


def _users(row: Row) -> list[float]:
    """Return all numbers of users that a row shows."""
    ends = (row.band.lower, row.band.upper) if row.band else ()
    return [number for number in (row.observed, row.expected, *ends) if number is not None]


def _bar(row: Row, scale: Scale) -> list[str]:
    """Return the role of each cell: a field of `Signs`, or nothing."""
    cells = ["grid" if cell in scale.ticks else "" for cell in range(scale.cells)]
    if row.band:
        first, last = scale.cell(row.band.lower), scale.cell(row.band.upper)
        cells[first : last + 1] = ["band"] * (last + 1 - first)
    if row.expected is not None:
        cells[scale.cell(row.expected)] = "expected"
    if row.observed is not None:
        sort = "so_far" if row.state != "over" else "outside" if row.outcome in ("above", "below") else "inside"
        cells[scale.cell(row.observed)] = sort
    return cells


def _coloured(roles: Sequence[str], signs: Signs) -> str:
    parts = []
    for role, cells in groupby(roles):
        text = (getattr(signs, role) if role else " ") * len(list(cells))
        parts.append(click.style(text, fg=_COLOURS.get(role), dim=role == "grid" or None) if role else text)
    return "".join(parts)


def _when(start: datetime, interval_s: float, before: datetime | None) -> str:
    """Return the time of a row, with its date where that is another than the row's before."""
    start = start.astimezone(UTC)
    if before is not None and before.astimezone(UTC).date() == start.date():
        return clock(start, interval_s)
    return f"{start:%b %d} {clock(start, interval_s)}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
