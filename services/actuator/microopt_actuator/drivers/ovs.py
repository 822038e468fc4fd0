"""Bandwidth by Open vSwitch, in Mbit/s: min-rate and max-rate of queues, by transactions of its database.

What is read is a replica of the database, once ovs-vswitchd has taken over what it says: a value that the
database has accepted and the switch has not is no value in force. Only queues that are there are changed, unless
the settings let missing ones be made; flows decide which packets go into them.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog

from microopt.agent import Context
from microopt.errors import MicrooptError, PermanentError
from microopt_actuator.drivers.base import WRITABLE, Access, Driver, Write
from microopt_actuator.drivers.ovs_change import ABORT, leftovers, new_config, operations, said, why_refused
from microopt_actuator.drivers.ovs_place import BYTES_S_MAX, Place, find
from microopt_actuator.drivers.ovs_rows import Rows
from microopt_actuator.drivers.ovs_target import MAX_QUEUE, OvsTarget, parse_target
from microopt_actuator.drivers.ovsdb import Database
from microopt_actuator.drivers.ovsdb_remote import parse_remote
from microopt_actuator.drivers.ovsdb_session import Session
from microopt_actuator.settings import ActuatorSettings, OvsSettings

_BITS: Final = 1e6
_TOLERANCE_MBPS: Final = 4 / _BITS
"""Half a byte/s: Linux holds whole ones."""


class OvsDriver:
    """The `Driver` for bandwidth by queues of an Open vSwitch.

    Args:
        settings: how to reach it, how long to wait, and what may be made.
        database: where the queues are; somebody else keeps it connected.
    """

    name = "ovs"
    unit = "Mbit/s"

    def __init__(self, settings: OvsSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._log = structlog.get_logger("microopt.actuator.ovs")

    async def plan(self, target: str, value: float) -> Write:
        """Return the change of the queue's row.

        Raises:
            TemporaryError: port or switch are not there now.
            PermanentError: no such queue, or one that does not shape, or a value that it would not get.
        """
        where = parse_target(target)
        rate = _rate(where, value)
        session = await self._database.session()
        place = self._find(await session.fresh(), where)
        _check(where, place, rate)
        steps = tuple(said(place, rate, self._settings.port_mbps))
        thing = place.queue.uuid if place.queue is not None else ""
        return Write(target, value, rate / _BITS, _TOLERANCE_MBPS, steps, thing)

    async def apply(self, write: Write) -> None:
        """Give the queue its rate, and wait until ovs-vswitchd has taken it over.

        Raises:
            TemporaryError: port or switch are not there now, or ovs-vswitchd does not follow the database.
            PermanentError: no such queue, or one that does not shape, or a value that it would not get.
        """
        where = parse_target(write.target)
        rate = _rate(where, write.value)
        session = await self._database.session()
        place = self._find(await session.fresh(), where)
        _check(where, place, rate)
        config = session.rows.next_cfg
        if not place.has(rate):
            todo = operations(place, rate, where, self._settings.port_mbps)
            config = new_config(where, todo, await session.transact(todo))
        await session.configured(config, self._settings.settle_s)
        if self._settings.create:
            await self._remove_leftovers(session)

    async def read(self, target: str) -> float | None:
        """Return the Mbit/s in force, at most what the port's QoS lets through; `None` where there is no one rate.

        Raises:
            TemporaryError: port or switch are not there now, or ovs-vswitchd is behind the database.
            PermanentError: no such queue, or one that does not shape.
        """
        where = parse_target(target)
        session = await self._database.session()
        rows = await session.fresh()
        await session.configured(rows.next_cfg, self._settings.settle_s)
        rate = self._find(rows, where).rate()
        return None if rate is None else rate / _BITS

    async def access(self, target: str) -> Access:
        """Return whether the database takes a change of the queue, in a transaction that undoes itself."""
        where = parse_target(target)
        session = await self._database.session()
        place = self._find(await session.fresh(), where)
        todo = [*operations(place, place.least, where, self._settings.port_mbps), ABORT]
        error = why_refused(where, await session.transact(todo))
        if error is None:
            return WRITABLE
        return Access(writable=False if isinstance(error, PermanentError) else None, why=str(error))

    def absent(self, target: str) -> str:
        """Return the last queue of the same port, tags that no row has, or a port that there is not."""
        where = parse_target(target)
        if where.tags:
            return f"{target},microopt=none"
        is_made = self._settings.create or where.queue == MAX_QUEUE
        return str(replace(where, port="microopt-none") if is_made else replace(where, queue=MAX_QUEUE))

    def _find(self, rows: Rows, target: OvsTarget) -> Place:
        may_make = self._settings.create and not target.tags
        return find(rows, target, may_make=may_make, new_port_mbps=self._settings.port_mbps)

    async def _remove_leftovers(self, session: Session) -> None:
        """Remove what we made for ports that are gone; what cannot be removed now is found again."""
        todo = leftovers(session.rows)
        if not todo:
            return
        try:
            errors = [one.error for one in await session.transact(todo) if one is not None and one.error]
        except MicrooptError as error:
            errors = [str(error)]
        if errors:
            self._log.warning("rows_left", rows=len(todo), errors=errors)
        else:
            self._log.info("rows_removed", rows=len(todo))


@asynccontextmanager
async def opened(settings: ActuatorSettings, _: Context) -> AsyncIterator[Driver]:
    """Open the driver with its settings and a connection of its own.

    Raises:
        ConfigError: a setting of [actuator.ovs] cannot be used.
    """
    database = Database(parse_remote(settings.ovs), settings.ovs.timeout_s)
    keeping = asyncio.create_task(database.keep())
    try:
        yield OvsDriver(settings.ovs, database)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def _rate(target: OvsTarget, value: float) -> int:
    """Return Mbit/s as the nearest whole bytes/s, in bits/s."""
    most = BYTES_S_MAX * 8 / _BITS
    if not (math.isfinite(value) and 0 < value <= most):
        raise PermanentError(
            f"ovs {target}: {value} Mbit/s is not above 0 and up to {most:g}, which Open vSwitch can count; set "
            "the slice's bounds within"
        )
    return round(value * _BITS / 8) * 8


def _check(target: OvsTarget, place: Place, rate: int) -> None:
    """Raise PermanentError if Open vSwitch would make another rate of it, without a word."""
    if rate > place.most:
        of = f"QoS {place.qos.uuid}" if place.qos is not None else "the QoS to be made"
        raise PermanentError(
            f"ovs {target}: {rate / _BITS:g} Mbit/s is more than {of} of port {place.port.name} lets through "
            f"({place.most / _BITS:g}); raise its other_config:max-rate, up to {BYTES_S_MAX * 8}, or lower the "
            "slice's ceiling"
        )
    if rate < place.least:
        raise PermanentError(
            f"ovs {target}: {rate / _BITS:g} Mbit/s is less than one packet a second ({place.least / _BITS:g} at "
            f"the MTU of port {place.port.name}), the least that Open vSwitch sets; raise the slice's floor"
        )
