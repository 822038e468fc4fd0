"""One file a model; each expects the level of an interval from the steps before it."""

from collections.abc import Callable, Iterable
from typing import Final

from microopt.errors import ConfigError
from microopt_forecaster.day_types import DayTypes
from microopt_forecaster.models.base import Model
from microopt_forecaster.models.ces import Ces
from microopt_forecaster.models.neural_prophet import NeuralProphet
from microopt_forecaster.models.ridge import Ridge
from microopt_forecaster.models.seasonal_naive import SeasonalNaive

MODELS: Final[dict[str, Callable[[DayTypes], Model]]] = {
    "seasonal-naive": lambda _: SeasonalNaive(),
    "ces": lambda _: Ces(),
    "ridge": lambda _: Ridge(),
    "ridge-days": lambda days: Ridge("ridge-days", days),
    "ridge-waves": lambda days: Ridge("ridge-waves", days, with_waves=True),
    "neuralprophet": lambda _: NeuralProphet(),
}


def check(names: Iterable[str]) -> None:
    """Make sure that the models of these names can be made and fitted.

    Raises:
        ConfigError: there is no model of a name, or its library is not installed.
    """
    for model in make(names):
        if isinstance(model, NeuralProphet):
            model.check()


def make(names: Iterable[str], days: DayTypes | None = None) -> tuple[Model, ...]:
    """Return the models of these names, in this order; `days` tells them holidays.

    Raises:
        ConfigError: there is no model of a name.
    """
    days = days or DayTypes()
    wanted = tuple(names)
    if unknown := sorted(set(wanted) - set(MODELS)):
        raise ConfigError(f"no forecast model {', '.join(unknown)}; known: {', '.join(MODELS)}")
    return tuple(MODELS[name](days) for name in wanted)
