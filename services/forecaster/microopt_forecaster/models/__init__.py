"""One file a model; each turns a slice's history into the traffic of an interval."""

from microopt.specs import SliceSpec
from microopt_forecaster.models.base import Model
from microopt_forecaster.models.seasonal_naive import SeasonalNaive
from microopt_forecaster.settings import ForecasterSettings


def make(spec: SliceSpec, settings: ForecasterSettings) -> Model:
    """Return the model that forecasts the slice of `spec`."""
    return SeasonalNaive(spec.season_s, settings.residual_quantiles)
