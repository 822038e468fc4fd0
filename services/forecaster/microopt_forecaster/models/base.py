"""What the forecaster asks of every model."""

from typing import Protocol

from microopt_forecaster.steps import Floats, Ints, Steps


class Fitted(Protocol):
    """A model with parameters; synchronous, without I/O, and the same for the same history."""

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        """Return the expected log(mean users + offset) of each of `intervals`, NaN where too little is known.

        For each, only steps are used that end `gap` steps before it; `gap` is that of the fit.
        """
        ...


class Model(Protocol):
    """A way to expect the level of an interval's traffic (docs/adr/0010-forecasts.md)."""

    @property
    def name(self) -> str:
        """Return the name that forecasts carry."""
        ...

    def fit(self, steps: Steps, gap: int) -> Fitted | None:
        """Return the model fitted on `steps`, for intervals that begin `gap` steps after what is known of them.

        `None` where there is too little history.
        """
        ...
