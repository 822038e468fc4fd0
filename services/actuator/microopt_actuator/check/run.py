"""Planning and reading what is bound, without writing any of it."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from microopt.errors import MicrooptError, PermanentError
from microopt.messages import Values
from microopt.specs import PoolSpec, SliceSpec
from microopt_actuator.bindings import Bindings, Bound
from microopt_actuator.check.report import Report, Row
from microopt_actuator.drivers.base import Access, Driver, Probe

ANSWER_WITHIN_S: Final = 10.0
_UNSEEN: Final = Access(writable=None, why="only a write would show")


async def check(
    bindings: Bindings,
    drivers: Mapping[str, Driver | str],
    slices: Iterable[SliceSpec],
    pools: Mapping[str, PoolSpec],
    allocated: Mapping[str, Values],
) -> Report:
    """Return a row for each resource of each slice.

    Args:
        bindings: what is bound to which target.
        drivers: those that the bindings name; a text says why one cannot be opened.
        slices: those that there are.
        pools: their pools, by name.
        allocated: the values of each slice's last allocation, where there is one.
    """
    rows = [
        _row(spec, resource, bindings.find(spec.slice, resource), drivers, pools, allocated.get(spec.slice, {}))
        for spec in sorted(slices, key=lambda spec: spec.slice)
        for resource in sorted(spec.bounds)
    ]
    return Report(rows=list(await asyncio.gather(*rows)))


async def _row(
    spec: SliceSpec,
    resource: str,
    bound: Bound | None,
    drivers: Mapping[str, Driver | str],
    pools: Mapping[str, PoolSpec],
    allocated: Values,
) -> Row:
    row = Row(slice=spec.slice, resource=resource)
    if bound is None:
        return row
    row.driver, row.target = bound.driver, bound.target
    driver = drivers[bound.driver]
    if isinstance(driver, str):
        row.error = driver
        return row
    row.unit = driver.unit or _unit(spec, resource, pools)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await _look(row, driver, spec, pools, allocated.get(resource))
    except TimeoutError:
        row.error = f"no answer within {ANSWER_WITHIN_S:g} s"
    except MicrooptError as error:
        row.error = str(error)
    except Exception as error:  # one driver's mistake must not hide what the others say
        row.error = f"driver {bound.driver}: {error!r}"
    return row


async def _look(
    row: Row, driver: Driver, spec: SliceSpec, pools: Mapping[str, PoolSpec], allocated: float | None
) -> None:
    row.observed, row.readable = await driver.read(row.target), True
    access = await driver.access(row.target) if isinstance(driver, Probe) else _UNSEEN
    row.writable, row.access = access.writable, access.why
    counted = _unit(spec, row.resource, pools)
    if driver.unit is not None and counted and counted != driver.unit:
        raise PermanentError(f"pool {spec.pool} counts in {counted!r}, the driver sets {driver.unit!r}")
    bounds = spec.bounds[row.resource]
    for what, value in (("floor", bounds.floor), ("ceiling", bounds.ceiling)):
        try:
            await driver.plan(row.target, value)
        except PermanentError as error:
            raise PermanentError(f"cannot hold the slice's {what} {value:g}: {error}") from error
    row.wanted = allocated
    if allocated is not None:
        write = await driver.plan(row.target, allocated)
        row.steps = [] if write.is_held_by(row.observed) else list(write.steps)


def _unit(spec: SliceSpec, resource: str, pools: Mapping[str, PoolSpec]) -> str:
    pool = pools.get(spec.pool)
    return pool.resources[resource].unit if pool is not None and resource in pool.resources else ""
