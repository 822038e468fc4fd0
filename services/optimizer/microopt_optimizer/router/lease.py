"""One leader a pool: lease and epoch are one entry, so that who lost the one cannot take the other (ADR 16)."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import nats.errors
from msgspec import Struct
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from microopt import codec, streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, TemporaryError

UNREACHABLE: Final = (nats.errors.Error, APIError, TimeoutError)


class NotLeading(TemporaryError):
    """This router does not lead the pool, or has lost it just now."""


class Entry(Struct, frozen=True, kw_only=True, tag="microopt.lease.v1"):
    """Who leads a pool, and the last epoch that was given out; who goes leaves it `free`."""

    holder: str
    epoch: int
    ttl_s: float
    free: bool = False


class Lease:
    """The lease of one pool, as one router sees it.

    Every write is a compare-and-set on the revision that this router wrote last: a router that slept while another
    took over cannot write any more. Only durations are measured, each on one router's own clock.
    """

    def __init__(
        self,
        bus: Bus,
        pool: str,
        holder: str,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self._bus = bus
        self._key = f"lease.{pool}"
        self._holder = holder
        self._ttl_s = ttl_s
        self._clock = clock
        self._monotonic = monotonic
        self._revision = 0
        self._epoch = 0
        self._held_until = -1.0
        self._seen: tuple[int, float] = (-1, 0.0)
        self._writing = asyncio.Lock()
        self._kv: KeyValue | None = None

    @property
    def is_held(self) -> bool:
        """Return whether this router leads, for as long as nobody else can think that it does not."""
        return self._monotonic() < self._held_until

    async def tend(self) -> None:
        """Renew the lease, or take it if it is free or was not renewed for its duration.

        Raises:
            NotLeading: it was this router's, and is not any more.
            nats.errors.Error, APIError, TimeoutError: the store does not answer.
        """
        async with self._writing:
            if self.is_held:
                await self._write(self._epoch)
            elif self._held_until >= 0.0:  # another may have led since, even in a store that was made anew
                self._lose()
                raise NotLeading(f"pool {self.pool}: not renewed within {self._ttl_s:g} s")
            else:
                await self._try_to_take()

    async def next_epoch(self) -> int:
        """Return an epoch that nobody else has, higher than all before it.

        It is at least the Unix time in seconds, so that it also grows when the store of the bus was lost while
        actuators still remember the epochs that were given out (ADR 3).

        Raises:
            NotLeading: another router leads the pool, or nobody can tell.
        """
        async with self._writing:
            if not self.is_held:
                raise NotLeading(f"pool {self.pool}: another router leads it")
            try:
                await self._write(max(self._epoch + 1, int(self._clock())))
            except UNREACHABLE as error:
                raise NotLeading(f"pool {self.pool}: no epoch: {error!r}") from error
            return self._epoch

    def raise_epoch(self, at_least: int) -> None:
        """Let the next epoch be higher than one that was given out, which the store may have forgotten."""
        self._epoch = max(self._epoch, at_least)

    async def release(self) -> None:
        """Let another router take over at once; what cannot be said is found out when the lease ends."""
        async with self._writing:
            if self.is_held:
                try:
                    await self._write(self._epoch, free=True)
                except (*UNREACHABLE, NotLeading):
                    return
                finally:
                    self._lose()

    async def _try_to_take(self) -> None:
        try:
            found = await (await self._bucket()).get(self._key)
        except KeyNotFoundError as error:
            self._revision = (error.entry.revision if error.entry else None) or 0
            await self._write(max(self._epoch + 1, int(self._clock())))
            return
        entry = self._read(found.value or b"")
        revision, now = found.revision or 0, self._monotonic()
        if self._seen[0] != revision:
            self._seen = (revision, now)
        waited_s = now - self._seen[1]
        if entry is None or entry.free or entry.holder == self._holder or waited_s >= entry.ttl_s:
            self._revision = revision
            epoch = entry.epoch if entry else int(self._clock())
            await self._write(max(self._epoch, epoch) + 1)

    def _read(self, value: bytes) -> Entry | None:
        try:
            return codec.decode(value, Entry, origin=f"{streams.STATE}/{self._key}")
        except InvalidMessageError:  # nobody can hold what nobody can read
            return None

    async def _write(self, epoch: int, *, free: bool = False) -> None:
        """Write the entry if it is still as this router knows it.

        A write whose answer does not come may have been stored: nothing is held then until it was read anew.
        """
        begun = self._monotonic()
        value = codec.encode(Entry(holder=self._holder, epoch=epoch, ttl_s=self._ttl_s, free=free))
        try:
            update = (await self._bucket()).update(self._key, value, last=self._revision)
            self._revision = await asyncio.wait_for(update, self._ttl_s)
        except KeyWrongLastSequenceError as error:
            self._lose()
            raise NotLeading(f"pool {self.pool}: another router has taken it over") from error
        except BaseException:
            self._lose()
            raise
        self._epoch, self._held_until = epoch, begun + self._ttl_s

    async def _bucket(self) -> KeyValue:
        if self._kv is None:
            self._kv = await self._bus.js.key_value(streams.STATE)
        return self._kv

    def _lose(self) -> None:
        self._kv = None  # it may have been made anew
        self._held_until, self._revision, self._seen = -1.0, 0, (-1, 0.0)
