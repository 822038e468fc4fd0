"""Tuning a model that drifted, and what becomes of the new version: offered, or promoted where that is wanted."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from microopt.agent import Context
from microopt.errors import ConfigError, MicrooptError, ModelError
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.slice_model.model_store import publish_version
from microopt_optimizer.tuner import tuning
from microopt_optimizer.tuner.followed import Followed
from microopt_optimizer.tuner.fresh import Row
from microopt_optimizer.tuner.metrics import TunerMetrics
from microopt_optimizer.tuner.settings import TunerSettings
from microopt_optimizer.tuner.tuning import Outcome
from microopt_optimizer.versions import objects, routes
from microopt_optimizer.versions.routes import Standing

BY: Final = "microopt-tuner"

Beside = Callable[[Callable[[], Any]], Awaitable[Any]]


async def offer(
    one: Followed, settings: TunerSettings, metrics: TunerMetrics, context: Context, beside: Beside
) -> None:
    """Tune a followed model on what was seen since it drifted; publish it as a version if that is better."""
    if one.model is None:
        return
    standing = await routes.current(context.bus, one.name)
    if one.version != (standing[0].version if standing[0] else 0):
        return  # another version has just been put in force: measure that
    outcome = await _tried(one, one.model, settings, metrics, context, beside)
    if outcome is None:
        return
    newest = max((each.version for each in await objects.get_all(context.bus, one.name)), default=0)
    found = _found(outcome)
    about = f"tuned by {BY} from version {one.version}: {found}"
    one.offered = await publish_version(context.bus, one.name, model_file.to_bytes(outcome.model), about)
    one.held_out_nll, one.offered_nll, one.note = outcome.old_nll, outcome.new_nll, ""
    if settings.promote and newest > one.version:
        one.note = f"version {newest} was there and not in force, so this one is not promoted by itself"
    is_promoted = settings.promote and not one.note and await _promoted(one, standing, found, context)
    metrics.tunings.labels(one.name, "promoted" if is_promoted else "offered").inc()
    if not is_promoted:
        remedy = f"microopt model promote {one.name} {one.offered}"
        await routes.announce(
            context.bus, one.name, f"model {one.name}: version {one.offered} offered: {found}: {remedy}"
        )


async def _tried(
    one: Followed,
    model: TrainedModel,
    settings: TunerSettings,
    metrics: TunerMetrics,
    context: Context,
    beside: Beside,
) -> Outcome | None:
    """Return what tuning gave if that is better; otherwise say why not."""
    rows = one.window.since_drift
    context.log.info("tuning", model=one.name, version=one.version, rows=len(rows))
    try:
        outcome: Outcome = await beside(partial(tuned, model, rows, one.name, settings))
    except (ConfigError, ModelError) as error:
        metrics.tunings.labels(one.name, "failed").inc()
        context.log.error("tuning_failed", model=one.name, error=str(error))
        one.retry_later(f"tuning failed: {error}")
        return None
    if outcome.is_better(settings.gain):
        return outcome
    metrics.tunings.labels(one.name, "not_better").inc()
    context.log.warning("tuned_not_better", model=one.name, found=_found(outcome))
    one.retry_later(f"tuned, but not better by {settings.gain:g}: {_found(outcome)}; nothing is offered")
    return None


def _found(outcome: Outcome) -> str:
    return f"NLL {outcome.old_nll:.3f} to {outcome.new_nll:.3f} on {outcome.held_out_rows} held-out slots"


def tuned(model: TrainedModel, rows: list[Row], name: str, settings: TunerSettings) -> Outcome:
    """Return a model fine-tuned on fresh rows, with its original data where that is given.

    Raises:
        ConfigError: the original data cannot be used, or the training diverged.
    """
    before = tuning.original(settings.data[name], model.header) if name in settings.data else None
    fresh = tuning.dataset_of(rows, model.header)
    return tuning.fine_tune(model, fresh, before, epochs=settings.epochs, learning_rate=settings.learning_rate)


async def _promoted(one: Followed, standing: Standing, found: str, context: Context) -> bool:
    """Put the offered version in force, unless somebody changed the route while it was tuned."""
    try:
        await routes.promote(
            context.bus, one.name, one.offered or 0, reason=f"drifted; {found}", by=BY, standing=standing
        )
    except MicrooptError as error:
        context.log.warning("not_promoted", model=one.name, version=one.offered, error=str(error))
        one.note = f"not promoted: {error}"
        return False
    return True
