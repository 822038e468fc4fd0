"""The table [router]."""

from typing import Annotated

from msgspec import Meta, Struct

from microopt_optimizer.router.judging import Envelope, Policy

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
    lease_s: Annotated[float, Meta(ge=0.2, le=60.0)] = 3.0
    """How long a pool's leader is believed to be alive without a sign of it; then another router takes over."""
    check: Policy = "required"
    """Whether an answer counts that no slice model could check; `off` asks none."""
    envelope: Envelope = "say"
    """Whether an answer counts that lies outside of what the slice model was trained on, or is only said to."""
    check_within_s: _Seconds = 2.0
    """For the slice models' word on an answer."""
    forecast_age_intervals: Annotated[float, Meta(gt=0.0, le=1e3)] = 2.0
    """On a forecast that is older nothing shrinks."""
    telemetry_age_slots: Annotated[float, Meta(gt=0.0, le=1e6)] = 10.0
    """On a forecast that was made without the telemetry of so many slots nothing shrinks."""
    desired: str = ""
    """A file as for `microopt apply`: what the bus never had of it is written, at the start and after a loss."""
