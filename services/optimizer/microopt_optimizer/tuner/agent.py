"""The tuner's shell: follows telemetry, and measures the models in force again and again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import nats.errors
import torch

from microopt import streams
from microopt.agent import Agent, Context
from microopt.errors import MicrooptError, ModelError
from microopt.messages import Telemetry
from microopt.settings import Settings
from microopt.specs import PoolSpec, SliceSpec
from microopt_optimizer.slice_model.model_store import ModelStore
from microopt_optimizer.tuner import report, tuning
from microopt_optimizer.tuner.followed import Followed
from microopt_optimizer.tuner.fresh import Settled, is_known
from microopt_optimizer.tuner.metrics import TunerMetrics
from microopt_optimizer.tuner.offers import offer
from microopt_optimizer.tuner.settings import TunerSettings
from microopt_optimizer.versions import routes

T = TypeVar("T")


class Tuner:
    """Which models slices name, and what was found of each."""

    def __init__(self, settings: TunerSettings) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tune")
        self._slices: dict[str, SliceSpec] = {}
        self._pools: dict[str, PoolSpec] = {}
        self._settled: dict[str, Settled] = {}
        self._followed: dict[str, Followed] = {}

    @asynccontextmanager
    async def lifespan(self, _: Context) -> AsyncIterator[None]:
        """Wait for the tuning in hand when leaving."""
        torch.set_num_threads(self._settings.threads)
        try:
            yield
        finally:
            await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    async def on_pool(self, name: str, spec: PoolSpec | None, _: Context) -> None:
        """Take a change of a pool."""
        _set(self._pools, name, spec)

    async def on_slice(self, name: str, spec: SliceSpec | None, _: Context) -> None:
        """Take a change of a slice."""
        _set(self._slices, name, spec)
        if spec is None:
            self._settled.pop(name, None)

    async def on_telemetry(self, slot: Telemetry, _: Context) -> None:
        """Keep a slot that tells how its slice's model predicts."""
        spec = self._slices.get(slot.slice)
        if spec is None:
            return
        settled = self._settled.setdefault(slot.slice, Settled(self._settings.settle_s))
        # A slot of which only the allocation is known tells of a change, too.
        if slot.allocation and settled.takes(slot) and is_known(slot):
            if spec.model not in self._followed:
                self._followed[spec.model] = Followed(spec.model, self._settings)
            self._followed[spec.model].wait(slot)

    async def run(self, context: Context) -> None:
        """Measure the models again and again, one after the other."""
        store = ModelStore(context.bus, {})
        metrics = TunerMetrics(context.metrics.registry)
        while True:
            self._forget_unused(metrics)
            for followed in list(self._followed.values()):
                try:
                    await self._measure(followed, store, metrics, context)
                except (MicrooptError, nats.errors.Error) as error:  # the next time it may be otherwise
                    context.log.warning("model_not_measured", model=followed.name, error=str(error) or repr(error))
                except Exception:  # trouble with one model must not keep others from being measured
                    context.log.exception("model_not_measured", model=followed.name)
            await asyncio.sleep(self._settings.every_s)

    async def _measure(self, one: Followed, store: ModelStore, metrics: TunerMetrics, context: Context) -> None:
        try:
            model = await store.get(one.name)
        except ModelError as error:
            one.trouble = str(error)
            await report.put(context.bus, one.report())
            return
        rows = []
        if one.model is None or one.model.digest != model.digest:
            rows = one.begin(model, await report.get(context.bus, one.name))
        elif one.model.name != model.name:  # the same content as another version
            one.model = model
        rows += one.drain(self._slices, self._pools)
        one.window.add(rows, await self._beside(partial(tuning.nlls, model, rows)))
        _show(one, metrics)
        await self._say_drift(one, context)
        if one.is_due:
            await offer(one, self._settings, metrics, context, self._beside)
        await report.put(context.bus, one.report())

    async def _say_drift(self, one: Followed, context: Context) -> None:
        """Tell operators once when a model has drifted, and once when it no longer has."""
        window = one.window
        if window.has_drifted == one.said_drifted or window.fresh_nll is None or window.reference is None:
            return
        what = "has drifted" if window.has_drifted else "predicts as in validation again"
        text = (
            f"model {one.name}: version {one.version} {what}: NLL {window.fresh_nll:.3f} on the latest slots, "
            f"{window.reference:.3f} in validation"
        )
        context.log.warning("model_drift", model=one.name, version=one.version, text=text)
        await routes.announce(context.bus, one.name, text)
        one.said_drifted = window.has_drifted

    def _forget_unused(self, metrics: TunerMetrics) -> None:
        used = {spec.model for spec in self._slices.values()}
        for name in [name for name in self._followed if name not in used]:
            del self._followed[name]
            metrics.forget(name)

    async def _beside(self, work: Callable[[], T]) -> T:
        """Return what `work` gives, done beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _show(one: Followed, metrics: TunerMetrics) -> None:
    window = one.window
    for kind, nll in (("fresh", window.fresh_nll), ("validation", window.reference)):
        if nll is not None:
            metrics.nll.labels(one.name, kind).set(nll)
    metrics.drifted.labels(one.name).set(window.has_drifted)
    metrics.fresh_slots.labels(one.name).set(len(window))


def _set(table: dict[str, T], name: str, spec: T | None) -> None:
    if spec is None:
        table.pop(name, None)
    else:
        table[name] = spec


def build(settings: Settings) -> Agent:
    """Return the tuner.

    Raises:
        ConfigError: a file of original data is not there.
    """
    table = settings.table("tuner", TunerSettings)
    table.require_files()
    tuner = Tuner(table)
    agent = Agent("tuner", description="measures slice models, tunes those that drifted", lifespan=tuner.lifespan)
    agent.watch(streams.POOLS, PoolSpec)(tuner.on_pool)
    agent.watch(streams.SLICES, SliceSpec)(tuner.on_slice)
    agent.on(Telemetry, start="new")(tuner.on_telemetry)
    agent.task("measure")(tuner.run)
    return agent
