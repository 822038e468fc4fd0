"""What the sources gave, and how an operator reads it."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from microopt_collector.sources.base import Measurement, Reason

INDENT: Final = "  "


class SliceReport(Struct, kw_only=True):
    """The last that a source said of a slice; `None` and absent were never known."""

    measurements: int = 0
    users: float | None = None
    qos: float | None = None
    usage: dict[str, float] = {}
    pressure: dict[str, float] = {}
    throttled: dict[str, float] = {}

    def note(self, measurement: Measurement) -> None:
        """Take what `measurement` knows."""
        self.measurements += 1
        self.users = self.users if measurement.users is None else measurement.users
        self.qos = self.qos if measurement.qos is None else measurement.qos
        self.usage = {**self.usage, **measurement.usage}
        self.pressure = {**self.pressure, **measurement.pressure}
        self.throttled = {**self.throttled, **measurement.throttled}

    def quantities(self) -> set[str]:
        """Return the names of what is known, such as `users` and `usage of gnb_cpu`."""
        known = {name for name, value in (("users", self.users), ("qos", self.qos)) if value is not None}
        for name, values in (("usage", self.usage), ("pressure", self.pressure), ("throttled", self.throttled)):
            known |= {f"{name} of {resource}" for resource in values}
        return known


class Rejections(Struct):
    """How often something was rejected for a reason, and the first time."""

    count: int
    subject: str
    example: str


class SourceReport(Struct, kw_only=True):
    """What one source gave."""

    name: str
    kind: str
    where: str
    slices: dict[str, SliceReport] = field(default_factory=dict)
    rejected: dict[Reason, Rejections] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    connected: bool = False

    @property
    def measurements(self) -> int:
        """Return how many it gave."""
        return sum(one.measurements for one in self.slices.values())


class Report(Struct, kw_only=True):
    """What all sources gave in `seconds`."""

    bus: str
    seconds: float
    declared: dict[str, str] | None
    """Slice → unit of its QoS; `None`: nobody could be asked, and all slices are taken."""
    sources: list[SourceReport]

    @property
    def ok(self) -> bool:
        """Return whether every source gave something."""
        return all(source.measurements for source in self.sources)


def remarks(report: Report) -> list[str]:
    """Return what is odd about the sources together."""
    givers: dict[tuple[str, str], list[str]] = {}
    for source in report.sources:
        for slice_, one in source.slices.items():
            for quantity in one.quantities():
                givers.setdefault((slice_, quantity), []).append(source.name)
    found = [
        f"slice {slice_}: {quantity} given by {' and '.join(names)}, and averaged; is that meant?"
        for (slice_, quantity), names in sorted(givers.items())
        if len(names) > 1
    ]
    for slice_ in sorted(report.declared or {}):
        missing = [quantity for quantity in ("users", "qos") if (slice_, quantity) not in givers]
        if "users" not in missing and _idle(report, slice_):
            continue
        if missing:
            found.append(f"slice {slice_}: no source gave its {' and '.join(missing)}; its telemetry is partial")
    return found


def lines(report: Report) -> list[str]:
    """Return the report as text."""
    shown = [_declared(report)]
    for source in report.sources:
        shown += ["", *_source(source, report)]
    if odd := remarks(report):
        shown += ["", *(f"note: {text}" for text in odd)]
    silent = [source.name for source in report.sources if not source.measurements]
    verdict = f"nothing from {', '.join(silent)}" if silent else "every source gives measurements"
    return [*shown, "", f"{verdict} ({report.seconds:.1f} s)"]


def _declared(report: Report) -> str:
    if report.declared is None:
        return f"No declared slices are known, all are taken: {report.bus}"
    if not report.declared:
        return f"No slices are declared at {report.bus}: every measurement is rejected until `microopt apply FILE`"
    return f"Declared slices at {report.bus}: {', '.join(sorted(report.declared))}"


def _source(source: SourceReport, report: Report) -> list[str]:
    state = f"{source.measurements} measurements" if source.measurements else "NOTHING"
    shown = [f"{source.name}: {source.kind} {source.where} — {state}"]
    if source.slices:
        heads = ("slice", "users", "qos", "resources", "measurements")
        rows = [heads, *(_row(name, one, report) for name, one in sorted(source.slices.items()))]
        shown += _columns(rows)
    if source.rejected:
        why = [
            (reason, f"{one.count}×", f"{one.subject}: {one.example}") for reason, one in source.rejected.items()
        ]
        shown += [f"{INDENT}rejected", *_columns(why, depth=2)]
    shown += [f"{INDENT}hint: {text}" for text in source.hints]
    shown += [f"{INDENT}error: {text}" for text in source.errors]
    if not (source.measurements or source.rejected or source.errors):
        heard = "it is connected, and heard nothing" if source.connected else "no answer yet"
        shown.append(f"{INDENT}{heard}; is anything sent? look longer with --for")
    return shown


def _row(name: str, one: SliceReport, report: Report) -> tuple[str, ...]:
    unit = (report.declared or {}).get(name, "")
    qos = "unknown" if one.qos is None else f"{one.qos:.4g} {unit}".strip()
    users = "unknown" if one.users is None else f"{one.users:.4g}"
    resources = sorted({*one.usage, *one.pressure, *one.throttled})
    used = "; ".join(f"{resource} {_resource(one, resource)}" for resource in resources) or "-"
    return (name, users, qos, used, str(one.measurements))


def _resource(one: SliceReport, resource: str) -> str:
    parts = [f"{one.usage[resource]:.4g}"] if resource in one.usage else []
    parts += [f"throttled {one.throttled[resource]:.1%}"] if resource in one.throttled else []
    parts += [f"pressure {one.pressure[resource]:.1%}"] if resource in one.pressure else []
    return ", ".join(parts)


def _columns(rows: Sequence[Sequence[str]], depth: int = 1) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        INDENT * depth + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _idle(report: Report, slice_: str) -> bool:
    found: list[Mapping[str, SliceReport]] = [source.slices for source in report.sources]
    return all(slices[slice_].users in (0.0, None) for slices in found if slice_ in slices)
