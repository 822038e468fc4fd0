"""Which column of a file becomes which field of telemetry."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

from microopt.errors import ConfigError
from microopt.ids import NAME_PATTERN
from microopt.specs import SliceSpec
from microopt_collector.dataset.columns import LAST, MEASURED
from microopt_collector.dataset.files import Table, require_columns
from microopt_collector.dataset.history import Fields, RowError, time_of

LOOKED_AT_ROWS: Final = 1000
"""So many rows tell how far apart the rows of a file are."""

STEP_ERROR_S: Final = 0.001
"""Files say times in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line says of a file; None is the name that an export has, where the file has it."""

    time: str = "time"
    users: str | None = None
    qos: str | None = None
    qos_scale: float = 1.0
    resources: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo | None = None
    slot_s: float | None = None


def fields_of(path: Path, table: Table, spec: SliceSpec, wanted: Wanted) -> Fields:
    """Return which columns of the file are read, as it is wanted or as an export calls them.

    Raises:
        ConfigError: a column is not there, a resource is not the slice's, or there is nothing to import.
    """
    for name in wanted.resources:
        if name not in spec.bounds:
            raise ConfigError(
                f"--resource {name}: slice {spec.slice} has none called so, but {', '.join(sorted(spec.bounds))}"
            )
    there = set(table.columns)
    allocation = {name: name for name in spec.bounds if name in there} | dict(wanted.resources)
    fields = Fields(
        time=wanted.time,
        users=wanted.users or _if_there("users", there),
        qos=wanted.qos or _if_there("qos", there),
        slot_s=_if_there("slot_s", there),
        qos_scale=wanted.qos_scale,
        zone=wanted.zone,
        resources={"allocation": allocation, **_measured(there)},
    )
    require_columns(path, table.columns, fields.columns)
    if fields.users is None and fields.qos is None:
        raise ConfigError(
            f"{path}: no column 'users' or 'qos' among {', '.join(map(repr, table.columns))}; name them with "
            "--users-column and --qos-column"
        )
    return fields


def ignored(table: Table, fields: Fields) -> list[str]:
    """Return the columns of which nothing is imported, except those that follow from the others."""
    return [column for column in table.columns if column not in (*fields.columns, *LAST)]


def require_slots(path: Path, table: Table, fields: Fields, spec: SliceSpec, slot_s: float | None) -> None:
    """Refuse a file of slots of another length than the slice's: `slot_s` where it is given, or what its rows say.

    Raises:
        ConfigError: the text names both lengths and the remedies.
    """
    if slot_s is not None and slot_s != spec.slot_s:
        found = f"--slot-s says slots of {slot_s:g} s"
    elif slot_s is None and (usual := _usual_step_s(table, fields)) and abs(usual - spec.slot_s) > STEP_ERROR_S:
        found = f"its rows are usually {usual:g} s apart"
    else:
        return
    raise ConfigError(
        f"{path}: {found}, but slice {spec.slice} has slots of {spec.slot_s:g} s. Set slot_s in the slice's spec "
        f"and `microopt apply` it, bring the file to slots of {spec.slot_s:g} s, or, if it only lacks rows, say "
        f"--slot-s {spec.slot_s:g}"
    )


def _usual_step_s(table: Table, fields: Fields) -> float | None:
    """Return the usual step between the first rows, in seconds."""
    times: list[datetime] = []
    for line in islice(table.rows([fields.time]), LOOKED_AT_ROWS):
        try:
            times.append(time_of(line.cells[0] if line.cells else None, fields.zone))
        except RowError:  # counted and shown when the file is imported
            continue
    steps = Counter((later - time).total_seconds() for time, later in pairwise(times) if later > time)
    return steps.most_common(1)[0][0] if steps else None


def _if_there(column: str, there: set[str]) -> str | None:
    return column if column in there else None


def _measured(there: set[str]) -> dict[str, dict[str, str]]:
    """Return the columns that are called like those of an export: `usage.<resource>` and so on."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in MEASURED}
    for column in sorted(there):
        kind, _, name = column.partition(".")
        if kind in found and re.fullmatch(NAME_PATTERN, name):
            found[kind][name] = column
    return found
