"""What is reported of an allocation that is refused as a whole."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime

from microopt.messages import Actuation, Allocation
from microopt_actuator.bindings import Bound
from microopt_actuator.worker import MAX_ERROR_CHARS


def refusals(allocation: Allocation, bound: Mapping[str, Bound], error: str, at: datetime) -> Iterator[Actuation]:
    """Yield a report for each resource that is bound here."""
    for resource, where in bound.items():
        requested = allocation.values[resource]
        if math.isfinite(requested):  # else no report can carry it; the error text does
            yield Actuation(
                slice=allocation.slice,
                resource=resource,
                epoch=allocation.epoch,
                state="refused",
                requested=requested,
                observed=None,
                driver=where.driver,
                at=at,
                forecast_made_at=allocation.forecast_made_at,
                error=error[:MAX_ERROR_CHARS],
            )
