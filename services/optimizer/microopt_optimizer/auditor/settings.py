"""The table [auditor]."""

from typing import Annotated

from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(gt=0.0, le=3600.0)]
_Wait = Annotated[float, Meta(ge=0.0, le=86_400.0)]


class AuditorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the auditor waits for shadows and for telemetry, and what it takes for known."""

    answer_within_s: _Seconds = 10.0
    """For a shadow's answer, and never longer than the interval that it is about."""
    check_within_s: _Seconds = 5.0
    """For what the slice models say of at most 200 slices of an answer."""
    at_once: Annotated[int, Meta(ge=1, le=1000)] = 2
    """Problems that one shadow is asked at the same time."""
    backlog: Annotated[int, Meta(ge=1, le=10_000)] = 32
    """Problems that wait for one shadow at most, those it is asked included; more are skipped, and counted."""
    stale_after_s: _Wait = 0.0
    """How long after its interval a problem is still given to shadows."""
    late_s: _Wait = 5.0
    """How long after its interval telemetry is waited for, before the interval is judged."""
    known_share: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.9
    """The share of an interval's slots that must be known; with fewer the SLA's status is UNKNOWN."""
    look_every_s: _Seconds = 1.0
    """How often the streams are looked at."""
    margins: bool = True
    """Adapt what optimizers are asked for to what is realised (docs/adr/0017)."""
    look_back_s: _Wait = 86_400.0
    """How far back intervals are judged that ended while no auditor ran."""
