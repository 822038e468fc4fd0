"""What the forecaster asks of every model."""

from typing import Protocol

from microopt.messages import Traffic
from microopt_forecaster.history import History


class Model(Protocol):
    """A forecast of one slice's traffic: synchronous, without I/O, and the same for the same history."""

    @property
    def name(self) -> str:
        """Return the name that forecasts carry."""
        ...

    def forecast(self, history: History, interval_start: float, interval_s: float) -> Traffic | None:
        """Return the distribution of the users in the slots of an interval, or None when too little is known.

        Only slots before `interval_start` (seconds since the Unix epoch) are used, so that a forecast can be
        made again later, and tested against what followed.
        """
        ...
