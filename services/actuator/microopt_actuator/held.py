"""What is in force here, for a router that lost its memory: what was verified, else what can be read."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from microopt.messages import Held, Holding, Holdings
from microopt_actuator.bindings import Bindings
from microopt_actuator.drivers.base import Driver
from microopt_actuator.reconciler import Reconciler

READ_S: Final = 0.5
"""Who asks does not wait for long."""
TOGETHER: Final = 64
"""Targets that are read at the same time."""


class InForce:
    """Answers from what the reconciler verified; a resource that it was never given is read from its driver."""

    def __init__(self, bindings: Bindings, drivers: Mapping[str, Driver], reconciler: Reconciler) -> None:
        self._bindings = bindings
        self._drivers = drivers
        self._reconciler = reconciler
        self._log = structlog.get_logger("microopt.actuator.held")

    async def answer(self, question: Held) -> Holdings:
        """Return what is held of the slices that are asked for; those of which nothing is known are left out."""
        slices = question.slices or dict.fromkeys(self._reconciler.slices, ())
        values = {name: self._reconciler.in_force(name) for name in slices}
        missing = [
            (name, resource)
            for name, resources in question.slices.items()
            for resource in resources
            if resource not in values[name] and self._bindings.find(name, resource)
        ]
        for (name, resource), value in (await self._read_all(missing)).items():
            values[name][resource] = value
        return Holdings(slices=list(self._holdings(values)))

    def _holdings(self, values: Mapping[str, dict[str, float]]) -> Iterable[Holding]:
        for name, held in values.items():
            last = self._reconciler.last(name)
            if last is not None or held:
                yield Holding(slice=name, epoch=last.epoch if last else 0, values=held)

    async def _read_all(self, targets: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}
        try:
            async with asyncio.timeout(READ_S):
                for part in (targets[at : at + TOGETHER] for at in range(0, len(targets), TOGETHER)):
                    await asyncio.gather(*(self._read(found, *one) for one in part))
        except TimeoutError:
            self._log.warning("not_all_read", wanted=len(targets), read=len(found))
        return found

    async def _read(self, found: dict[tuple[str, str], float], slice_: str, resource: str) -> None:
        bound = self._bindings.find(slice_, resource)
        if bound is None:
            return
        try:
            value = await self._drivers[bound.driver].read(bound.target)
        except Exception as error:  # one driver's mistake must not hide what the others hold
            self._log.warning("not_read", slice=slice_, resource=resource, error=str(error) or repr(error))
            return
        if value is not None and value >= 0.0:
            found[slice_, resource] = value
