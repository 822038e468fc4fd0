"""From a folder of measurements and their slice model to what a closed loop comes to, kept in that folder."""

import asyncio
import hashlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from microopt import log
from microopt.errors import ConfigError, ModelError
from microopt.settings import LogSettings
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed.live.collect import SCALE
from microopt_testbed.live.dash import segments_bits
from microopt_testbed.live.lab import LabSettings
from microopt_testbed.live.loop import Follow, LoopRun, close_loop
from microopt_testbed.live.loop_plan import MODEL, SLICES, LoopPlan
from microopt_testbed.live.outcome import LoopOutcome, judge
from microopt_testbed.live.pcap import Recording
from microopt_testbed.live.scale import load
from microopt_testbed.traffic import data_folder

MODEL_FILE: Final = "model.safetensors"
OUTCOME: Final = "outcome.json"


class Pace(Struct, frozen=True, kw_only=True):
    """How much is played: the first `pairs` of the paper's thresholds, each for `intervals`."""

    pairs: int = 9
    intervals: int = 9
    slots_per_interval: int = 20
    slot_s: float = 1.0


QUICK: Final = Pace(pairs=2, intervals=4, slots_per_interval=10, slot_s=0.5)
"""Only shows that everything runs."""


def play(folder: Path, pace: Pace, follow: Follow, recordings: dict[str, Recording] | None = None) -> LoopOutcome:
    """Close the loop with what `folder` has, and keep the outcome and the agents' logs there.

    Slices with a recording replay it instead of videos.

    Raises:
        ConfigError: measurements or model are not there yet, or the testbed cannot run.
    """
    plan, model = _plan(folder, pace)
    settings = LabSettings(
        slices=SLICES,
        segments_bits=segments_bits(data_folder()),
        slot_s=pace.slot_s,
        recordings=recordings or {},
    )
    with (folder / "run.log").open("a", encoding="utf-8") as events:
        log.configure(LogSettings(format="json"), agent="testbed", stream=events)
        run = asyncio.run(_until_signalled(close_loop(settings, plan, model, folder, follow)))
    outcome = judge(run, _digest(pace, plan, model, recordings))
    (folder / OUTCOME).write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n")
    return outcome


async def _until_signalled(playing: Coroutine[Any, Any, LoopRun]) -> LoopRun:
    """End in order on SIGTERM too.

    Raises:
        ConfigError: that came.
    """
    task = asyncio.ensure_future(playing)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError as error:
        raise ConfigError("ended by a signal before all was played") from error


def played_before(folder: Path, pace: Pace) -> LoopOutcome | None:
    """Return what was played before, if it was the same with the same model, and everything of it is known.

    Raises:
        ConfigError: as `play`.
    """
    plan, model = _plan(folder, pace)
    try:
        outcome = msgspec.json.decode((folder / OUTCOME).read_bytes(), type=LoopOutcome)
    except (FileNotFoundError, msgspec.DecodeError):  # not played yet, or something was unknown in it
        return None
    return outcome if outcome.of == _digest(pace, plan, model, None) else None


def _digest(pace: Pace, plan: LoopPlan, model: TrainedModel, recordings: dict[str, Recording] | None) -> str:
    played = msgspec.json.encode([pace, plan.scale, model.digest, sorted((recordings or {}).items())])
    return hashlib.sha256(played).hexdigest()[:16]


def _plan(folder: Path, pace: Pace) -> tuple[LoopPlan, TrainedModel]:
    scale = load(folder / SCALE)
    if scale is None:
        raise ConfigError(f"{folder / SCALE} is not there; run: microopt testbed live collect --folder {folder}")
    try:
        model = model_file.load(folder / MODEL_FILE, MODEL)
    except ModelError as error:
        raise ConfigError(f"{error}; `microopt testbed live collect` says how to train it") from error
    slas = tuple(scale.slas[: pace.pairs])
    return LoopPlan(
        scale=scale,
        slas=slas,
        intervals=pace.intervals,
        slots_per_interval=pace.slots_per_interval,
        slot_s=pace.slot_s,
    ), model
