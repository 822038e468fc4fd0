"""Where margins are adapted: after each interval whose realised degradation is known."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from msgspec.structs import replace
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from microopt import codec, streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, TemporaryError
from microopt.messages import Assurance, Event
from microopt.specs import Margin, SliceSpec

MarginRule = Callable[[Margin | None, SliceSpec, Assurance], Margin | None]
"""Returns the slice's next margin; None leaves what stands, or stands not."""

TOLD_CHANGE: Final = 0.1
"""The share by which a threshold changes before it is an event; smaller steps add up."""
ATTEMPTS: Final = 5


def no_margins(_: Margin | None, __: SliceSpec, ___: Assurance) -> Margin | None:
    """Leave every margin as it is."""
    return None


class Margins:
    """Lets a rule learn from assurances, each once for a slice, whatever is restarted or replicated.

    A margin's `at` is the end of the interval that it last learned from: it is written by compare-and-set, and
    what is not later than it has been learned.
    """

    def __init__(self, bus: Bus, rule: MarginRule) -> None:
        self._bus = bus
        self._rule = rule
        self._told: dict[str, float] = {}
        self._log = structlog.get_logger("microopt.auditor")

    async def learn(self, assurance: Assurance, spec: SliceSpec) -> None:
        """Let the slice's margin follow an assurance with a realised degradation.

        Where a mode kept what was in force, nothing of what was asked for was tried, and nothing is learned.

        Raises:
            TemporaryError: others changed the margin each time.
            nats.errors.Error: the server is gone.
        """
        if assurance.realised is None or assurance.fallback == "force" or self._rule is no_margins:
            return
        for _ in range(ATTEMPTS):
            former, revision = await self._read(spec.slice)
            if former and former.at and former.at >= assurance.interval.end:
                return
            margin = self._rule(former, spec, assurance)
            if margin is None:
                return
            margin = replace(margin, at=assurance.interval.end, sla_threshold=spec.sla.degradation_threshold)
            if await self._write(margin, revision):
                await self._tell(former, margin, spec, assurance)
                return
        raise TemporaryError(f"margin of slice {spec.slice}: others changed it {ATTEMPTS} times")

    async def _read(self, slice_: str) -> tuple[Margin | None, int | None]:
        kv = await self._bus.js.key_value(streams.MARGINS)
        try:
            entry = await kv.get(slice_)
        except KeyNotFoundError:
            return None, None
        origin = f"{streams.MARGINS}/{slice_}"
        try:
            return codec.decode(entry.value or b"", Margin, origin=origin), entry.revision
        except InvalidMessageError as error:  # writing another is the remedy
            await self._bus.dead_letter(entry.value or b"", subject=origin, error=error, kind="Margin")
            return None, entry.revision

    async def _write(self, margin: Margin, revision: int | None) -> bool:
        """Write a margin in place of `revision`; return False if another stands there by now."""
        kv = await self._bus.js.key_value(streams.MARGINS)
        data = codec.encode(margin)
        try:
            if revision is None:
                await kv.create(margin.slice, data)
            else:
                await kv.update(margin.slice, data, last=revision)
        except KeyWrongLastSequenceError:
            return False
        return True

    async def _tell(self, former: Margin | None, margin: Margin, spec: SliceSpec, assurance: Assurance) -> None:
        before = (former or spec.sla).degradation_threshold
        told, now = self._told.setdefault(spec.slice, before), margin.degradation_threshold
        if abs(now - told) <= TOLD_CHANGE * told:
            return
        self._log.info("margin", slice=spec.slice, threshold=now, before=told)
        reason = (
            f"optimizers are asked for a degradation of {now:.4g} in place of {told:.4g} (SLA: "
            f"{spec.sla.degradation_threshold:g}); expected {_number(assurance.expected_degradation)}, realised "
            f"{_number(assurance.realised)}, bias {margin.bias:.3g}, offset {margin.offset:.3g}"
        )
        event = Event(
            pool=spec.pool,
            kind="margin",
            at=datetime.now(UTC),
            slice=spec.slice,
            optimizer=assurance.optimizer,
            reason=reason,
            epoch=assurance.epoch,
            interval=assurance.interval,
        )
        await self._bus.publish(event)
        self._told[spec.slice] = now


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
