"""The table `[forecaster]`."""

from typing import Annotated

from msgspec import Meta, Struct

from microopt.messages import Name, Seconds


class ForecasterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far to look back, with which models, and how often to keep what was learned."""

    models: Annotated[tuple[Name, ...], Meta(min_length=1)] = (
        "seasonal-naive",
        "ces",
        "ridge",
        "ridge-days",
        "ridge-waves",
    )
    """Those that a slice with `forecast_model = "auto"` chooses from."""
    timezone: str = "UTC"
    """Of the IANA database; where days begin and end, for `ridge-days` and `ridge-waves`."""
    holidays: str = ""
    """A country such as `IT`, or a part of one such as `IT-MI`, whose holidays are like Sundays; empty: none."""
    horizon_seasons: Annotated[int, Meta(ge=1, le=400)] = 43
    """Older traffic is forgotten: of a daily season, what is older than six weeks and a day."""
    checkpoint_s: Seconds = 300.0
    """How often a slice's state is kept in KV; what came since is read again after a restart."""
