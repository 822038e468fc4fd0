"""The table `[forecaster]`."""

from typing import Annotated

from msgspec import Meta, Struct


class ForecasterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far to look back, and how finely to tell what may come."""

    horizon_seasons: Annotated[int, Meta(ge=1, le=400)] = 15
    """Older traffic is forgotten: of a daily season, what is older than two weeks and a day."""
    residual_quantiles: Annotated[int, Meta(ge=1, le=99)] = 9
    """Values that the error of a forecast is summed up in; more of them reach further into its tails."""
