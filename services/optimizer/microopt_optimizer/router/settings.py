"""The table [router]."""

from typing import Annotated

from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(gt=0.0, le=3600.0)]


class RouterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the router waits for what, and how fast it lets slices shrink."""

    gather_s: _Seconds = 1.0
    """For the forecasts of a pool's other slices, before a round begins without them."""
    answer_within_s: _Seconds = 10.0
    """For an optimizer's answer, before it is asked again."""
    retry_s: _Seconds = 0.25
    """Before a round whose optimizer failed is tried again; doubled each time, up to a twentieth of the interval.

    The attempts end with the interval.
    """
    grace: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.1
    """How long an allocation outlives its interval, in intervals; then the slice's blind policy rules."""
    deadband: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.02
    """What would shrink by less than this share of what it has stays as it is; 0 lets everything shrink."""
    shrink_at_most: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.5
    """The share of what it has by which a resource of a slice shrinks in one interval at most; 1 is no limit."""
