"""The leases of all pools: tended side by side, and told of when they come and go."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import structlog

from microopt.bus import Bus
from microopt.cancel import cancel
from microopt_optimizer.router.lease import UNREACHABLE, Lease, NotLeading

Won = Callable[[str], Awaitable[None]]


class Leases:
    """Which pools this router leads.

    Args:
        won: is awaited with a pool that this router leads from now on, before it decides anything there.
    """

    def __init__(self, bus: Bus, holder: str, ttl_s: float, won: Won) -> None:
        self._bus = bus
        self._holder = holder
        self._ttl_s = ttl_s
        self._won = won
        self._leases: dict[str, Lease] = {}
        self._ready: set[str] = set()
        self._terms: Counter[str] = Counter()
        self._beginning: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()
        self._log = structlog.get_logger("microopt.router")

    def leads(self, pool: str) -> bool:
        """Return whether this router may decide for a pool right now."""
        return pool in self._ready and self._leases[pool].is_held

    def term(self, pool: str) -> int:
        """Return which time it is that this router leads a pool: what was begun in another one is void."""
        return self._terms[pool]

    async def next_epoch(self, pool: str, term: int) -> int:
        """Return the pool's next epoch; see `Lease.next_epoch`.

        Raises:
            NotLeading: also when the pool was lost, and won again, since `term`.
        """
        if not self.leads(pool) or self.term(pool) != term:
            raise NotLeading(f"pool {pool}: it was lost while its problem was solved")
        return await self._leases[pool].next_epoch()

    def raise_epoch(self, pool: str, at_least: int) -> None:
        """Begin a pool's epochs above `at_least`; see `Lease.raise_epoch`."""
        self._leases[pool].raise_epoch(at_least)

    async def wait_for(self, pool: str, within_s: float) -> bool:
        """Return whether this router leads a pool, once it does or `within_s` have passed."""
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self.leads(pool))
        except TimeoutError:
            return False
        return True

    async def tend(self, pools: Iterable[str]) -> None:
        """Renew or try to take the lease of each pool; one that fails harms no other."""
        wanted = set(pools)
        for pool in set(self._leases) - wanted:
            self._ready.discard(pool)
            await self._leases.pop(pool).release()
        for pool in wanted - set(self._leases):
            self._leases[pool] = Lease(self._bus, pool, self._holder, self._ttl_s)
        await asyncio.gather(*(self._tend(lease) for lease in self._leases.values()))

    async def release(self) -> None:
        """Give all leases back, so that another router need not wait for their end."""
        await cancel(list(self._beginning.values()))
        self._ready.clear()
        await asyncio.gather(*(lease.release() for lease in self._leases.values()))

    async def _tend(self, lease: Lease) -> None:
        if not lease.is_held:  # what is known of the pool may be old when it is won again
            self._ready.discard(lease.pool)
        try:
            await lease.tend()
        except NotLeading as error:
            self._log.warning("lease_lost", pool=lease.pool, error=str(error))
        except UNREACHABLE as error:
            self._log.warning("lease_not_renewed", pool=lease.pool, error=repr(error))
        if not lease.is_held:
            self._ready.discard(lease.pool)
        elif lease.pool not in self._ready and lease.pool not in self._beginning:
            task = asyncio.create_task(self._begin(lease), name=f"begin:{lease.pool}")
            self._beginning[lease.pool] = task
            task.add_done_callback(lambda _: self._beginning.pop(lease.pool, None))

    async def _begin(self, lease: Lease) -> None:
        """Make ready to decide, beside the tending of leases: it may take longer than a lease lasts."""
        pool = lease.pool
        try:
            await self._won(pool)
        except Exception:  # as when the bus is away: it is tried again when the lease is renewed
            self._log.exception("lease_not_begun", pool=pool)
            return
        if not lease.is_held or self._leases.get(pool) is not lease:
            return
        self._ready.add(pool)
        self._terms[pool] += 1
        self._log.info("lease_won", pool=pool)
        async with self._changed:
            self._changed.notify_all()
