"""Measuring a live slice over a grid of users, bandwidth and CPU, all slices of the testbed at the same time."""

import asyncio
import hashlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import msgspec
from msgspec import Struct

from microopt.cancel import cancel
from microopt.errors import ConfigError
from microopt_testbed.live.knobs import Knobs, opened_for
from microopt_testbed.live.lab import Lab, LabSettings, Measured, running
from microopt_testbed.live.scale import USERS, Scale, fitted, load, save
from microopt_testbed.live.sweep_file import TRAIN_FILE, Cell, Sample, SweepFile
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH

DATA: Final = "data.csv"
SCALE: Final = "scale.json"
CONDITIONS: Final = "conditions.json"
TRAIN: Final = "train.yaml"
PROBED_MILLICORES: Final = 60.0
"""A limit that a gNB runs into, at which the CPU that a Mbit/s costs is seen."""
FREE_MILLICORES: Final = 1000.0
PROBE_SLOTS: Final = 5
PATIENCE: Final = 5.0
PATIENCE_S: Final = 20.0
"""A cell that takes so many times as long as it should, and this, is given up."""


Follow = Callable[[int, int], None]


class Pace(Struct, frozen=True, kw_only=True):
    """How long each cell is measured: `slots` after `settle_s` have passed."""

    slots: int = 6
    settle_s: float = 4.0


class Conditions(Struct, frozen=True, kw_only=True):
    """What the measurements of a folder have in common; `traffic` is the digest of segments and recordings."""

    slot_s: float
    traffic: str

    @classmethod
    def of(cls, settings: LabSettings) -> "Conditions":
        """Return the conditions of a testbed."""
        traffic = msgspec.json.encode([settings.segments_bits, sorted(settings.recordings.items())])
        return cls(slot_s=settings.slot_s, traffic=hashlib.sha256(traffic).hexdigest()[:16])


def _require_same(now: Conditions, file: Path) -> None:
    try:
        before = msgspec.json.decode(file.read_bytes(), type=Conditions)
    except FileNotFoundError:
        file.write_bytes(msgspec.json.encode(now) + b"\n")
        return
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: {error}; measure into another folder") from error
    if before != now:
        raise ConfigError(f"{file}: measured with other slots or other traffic; measure into another folder")


class Sweeper:
    """Measures cells on a testbed; what each slice says is a queue of its own."""

    def __init__(self, lab: Lab, knobs: Knobs, pace: Pace) -> None:
        self._lab = lab
        self._knobs = knobs
        self._pace = pace
        self._said: dict[str, asyncio.Queue[Measured]] = {name: asyncio.Queue() for name in lab.settings.slices}

    async def listen(self, measured: AsyncIterator[Measured]) -> None:
        """Sort what is measured by slice, until the testbed ends."""
        async for one in measured:
            self._said[one.slice].put_nowait(one)

    async def measure(self, slice_: str, cell: Cell, slots: int) -> list[Measured]:
        """Return `slots` whole slots at a point, after it has settled."""
        wanted = {TRANSPORT_BANDWIDTH: cell.bandwidth_mbps, GNB_CPU: cell.cpu_millicores}
        await self._lab.set_users(slice_, cell.users)
        await self._knobs.set(slice_, wanted)
        lasts_s = self._pace.settle_s + slots * self._lab.settings.slot_s
        try:
            async with asyncio.timeout(PATIENCE * lasts_s + PATIENCE_S):
                return await self._slots(slice_, cell.users, slots, changed_s=time.time())
        except TimeoutError:
            raise ConfigError(
                f"slice {slice_}: {cell.users} UEs, {cell.bandwidth_mbps:g} Mbit/s, {cell.cpu_millicores:g} "
                f"millicores: no {slots} slots with a throughput; is this machine too busy?"
            ) from None

    async def _slots(self, slice_: str, users: int, slots: int, *, changed_s: float) -> list[Measured]:
        """Return slots that began when the UEs were as many, and what was changed had settled."""
        since_s, found = math.inf, list[Measured]()
        while len(found) < slots:
            one = await self._said[slice_].get()
            if one.users != users or one.begin_s < changed_s:
                since_s = math.inf
                continue
            since_s = min(since_s, one.begin_s)
            if one.begin_s >= since_s + self._pace.settle_s and one.qos_mbps is not None:
                found.append(one)
        return found

    async def fit(self) -> Scale:
        """Return the scale that this machine carries with all slices at work."""
        link_mbps, users = self._lab.settings.link_mbps, max(USERS)
        free = await self._probe(Cell(link_mbps, FREE_MILLICORES, users))
        limited = await self._probe(Cell(link_mbps, PROBED_MILLICORES, users))
        return fitted(free, limited, PROBED_MILLICORES)

    async def _probe(self, cell: Cell) -> float:
        """Return the Mbit/s that a slice carries at a point, the mean over all slices.

        Raises:
            ConfigError: the switch does not tell.
        """
        probes = (self.measure(name, cell, PROBE_SLOTS) for name in self._lab.settings.slices)
        slots = [one for each in await asyncio.gather(*probes) for one in each]
        known = [one.transport_mbps for one in slots if one.transport_mbps is not None]
        if len(known) < len(slots) / 2:
            raise ConfigError("the switch's ports tell too rarely what they sent; is this machine too busy?")
        return fmean(known)

    async def sweep(self, cells: Iterable[Cell], file: SweepFile, done: Callable[[Cell], None]) -> None:
        """Measure every cell on whichever slice is free, and say each that is in the file."""
        waiting = deque(cells)

        async def work(slice_: str) -> None:
            while waiting:
                cell = waiting.popleft()
                slots = await self.measure(slice_, cell, self._pace.slots)
                file.append(cell, [Sample(one.begin_s, one.qos_mbps or 0.0) for one in slots])
                done(cell)

        tasks = [asyncio.create_task(work(name)) for name in self._lab.settings.slices]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel(tasks)


def grid(scale: Scale, *, every: int = 1) -> list[Cell]:
    """Return the points to measure, users innermost, for they settle sooner; `every` thins each resource out."""
    return [
        Cell(bandwidth, cpu, users)
        for bandwidth in scale.bandwidths_mbps[::every]
        for cpu in scale.cpus_millicores[::every]
        for users in USERS[::every]
    ]


async def collect(settings: LabSettings, folder: Path, pace: Pace, follow: Follow, *, every: int = 1) -> None:
    """Measure what `folder` lacks of the grid, and leave there what `microopt train` needs.

    Args:
        settings: the testbed.
        folder: where `scale.json`, `data.csv` and `train.yaml` are or come to be.
        pace: how long each cell is measured.
        follow: is told each cell that is in the file, of how many, and how many there were before.
        every: thins the grid out.

    Raises:
        ConfigError: the testbed cannot be, or a file in `folder` is none of ours.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    _require_same(Conditions.of(settings), folder / CONDITIONS)
    file = SweepFile(folder / DATA)
    known = load(folder / SCALE)
    async with running(settings) as lab, opened_for(lab) as knobs:
        sweeper = Sweeper(lab, knobs, pace)

        async def work() -> None:
            scale = known or await sweeper.fit()
            save(scale, folder / SCALE)
            cells = grid(scale, every=every)
            missing = [cell for cell in cells if file.rows[cell] < pace.slots]
            follow(len(cells) - len(missing), len(cells))
            await sweeper.sweep(missing, file, lambda _: follow(1, len(cells)))

        await _until_done(work(), beside=sweeper.listen(lab.measurements()))
    (folder / TRAIN).write_text(TRAIN_FILE, encoding="utf-8")


async def _until_done(work: Coroutine[Any, Any, None], beside: Coroutine[Any, Any, None]) -> None:
    """Wait for `work`, or for what `beside` it raises."""
    tasks = [asyncio.create_task(work), asyncio.create_task(beside)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            await one
    finally:
        await cancel(tasks)
