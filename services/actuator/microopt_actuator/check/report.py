"""What was found behind the bindings, and how an operator reads it."""

from collections.abc import Iterator

from msgspec import Struct


class Row(Struct, kw_only=True):
    """One resource of one slice; without a driver it is another actuator's."""

    slice: str
    resource: str
    driver: str = ""
    target: str = ""
    unit: str = ""
    readable: bool = False
    observed: float | None = None
    """What is in force; `None` is no limit where `readable`."""
    writable: bool | None = None
    """Whether it can be written; `None` where only a write would show."""
    access: str = ""
    """What speaks against `writable`, with the remedy, or why it cannot be known."""
    wanted: float | None = None
    """The value of the last allocation; `None` where there was none."""
    steps: list[str] = []
    """What an actuator would write now."""
    error: str = ""

    @property
    def is_held(self) -> bool:
        """Return whether nothing is known that would keep an actuator from holding it."""
        return bool(self.driver) and not self.error and self.writable is not False


class Report(Struct, kw_only=True):
    """What `microopt actuator check` found."""

    rows: list[Row]
    notes: list[str] = []
    """What of the desired state cannot be read."""

    @property
    def ok(self) -> bool:
        """Return whether something is bound, and all of it can be held."""
        bound = [row for row in self.rows if row.driver]
        return bool(bound) and all(row.is_held for row in bound)


def lines(report: Report) -> Iterator[str]:
    """Yield the report as text."""
    yield from (f"! {note}" for note in report.notes)
    if not report.rows:
        yield "no slices: put some with `microopt apply`"
        return
    slice_ = None
    for row in report.rows:
        if row.slice != slice_:
            slice_ = row.slice
            yield f"slice {slice_}"
        yield from _lines(row)
    bound, held = [row for row in report.rows if row.driver], [row for row in report.rows if row.is_held]
    yield ""
    if not bound:
        yield "nothing is bound here: write bindings into the table [actuator]"
    else:
        yield f"{len(bound)} of {len(report.rows)} resources are bound here; {len(held)} of them can be held"


def _lines(row: Row) -> Iterator[str]:
    if not row.driver:
        yield f"  - {row.resource}: not bound here"
        return
    mark = "✓" if row.is_held else "✗"
    yield f"  {mark} {row.resource}: {row.driver} {row.target}"
    if row.readable:
        has = "no limit" if row.observed is None else f"{row.observed:g} {row.unit}".rstrip()
        yield f"      in force    {has}"
        can = {True: "yes", False: "no", None: "unknown"}[row.writable]
        yield f"      writable    {can}{': ' if row.access else ''}{row.access}"
    if row.wanted is not None:
        yield f"      allocated   {row.wanted:g} {row.unit}".rstrip()
    if row.error:
        yield f"      error       {row.error}"
    for step in row.steps:
        yield f"      would write {step}"
