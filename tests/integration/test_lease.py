"""The lease of a pool on a real KV bucket: one leader, epochs that only grow, and no harm from who slept."""

import asyncio

import pytest

from microopt import codec, streams
from microopt.testing import eventually
from microopt_optimizer.router.lease import Entry, Lease, NotLeading
from microopt_optimizer.router.leases import Leases

TTL_S = 3.0
KEY = "lease.edge"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, at=1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@pytest.fixture
async def make_lease(bus):
    await streams.provision(bus.js)

    def make(holder, clock, wall_s=1000.0):
        return Lease(bus, "edge", holder, TTL_S, clock=lambda: wall_s, monotonic=clock)

    return make


async def test_epochs_grow_and_begin_at_the_time_and_go_on_after_the_store_was_lost(bus, make_lease):
    clock = Clock()
    lease = make_lease("a", clock)
    await lease.tend()
    assert [await lease.next_epoch() for _ in range(3)] == [1001, 1002, 1003]
    await bus.js.delete_key_value(streams.STATE)
    await streams.provision(bus.js)
    with pytest.raises(NotLeading):
        await lease.next_epoch()
    await lease.tend()
    assert await lease.next_epoch() > 1003
    later = make_lease("b", Clock(), wall_s=9000.0)
    await lease.release()
    await later.tend()
    assert await later.next_epoch() == 9000


async def test_epochs_go_on_above_one_that_the_store_has_forgotten(make_lease):
    lease = make_lease("a", Clock())
    await lease.tend()
    lease.raise_epoch(5000)
    lease.raise_epoch(17)
    assert await lease.next_epoch() == 5001


async def test_who_could_not_renew_in_time_reads_what_is_there_before_it_leads_again(bus, make_lease):
    """In a store that was made anew, another one's revision may be the one that it wrote last."""
    first_clock = Clock()
    first, second = make_lease("a", first_clock), make_lease("b", Clock())
    await first.tend()
    await bus.js.delete_key_value(streams.STATE)
    await streams.provision(bus.js)
    await second.tend()  # writes the revision that the first one wrote in the former store
    first_clock.at += TTL_S
    with pytest.raises(NotLeading, match="not renewed within 3 s"):
        await first.tend()
    await first.tend()
    assert (first.is_held, second.is_held) == (False, True)
    assert await second.next_epoch() > 1000


async def test_only_one_leads_until_its_lease_was_not_renewed_for_its_duration(make_lease):
    first_clock, second_clock = Clock(), Clock(5.0)
    first, second = make_lease("a", first_clock), make_lease("b", second_clock)
    await first.tend()
    await second.tend()
    assert (first.is_held, second.is_held) == (True, False)
    second_clock.at += TTL_S - 0.1
    await first.tend()  # renewed meanwhile: the second waits anew
    await second.tend()
    second_clock.at += TTL_S - 0.1
    await second.tend()
    assert not second.is_held
    first_clock.at += TTL_S + 0.1  # it knows by its own clock that others may have taken over
    assert not first.is_held
    second_clock.at += 0.2
    await second.tend()
    assert second.is_held


async def test_a_leader_that_slept_gets_no_epoch_and_learns_that_it_leads_no_more(make_lease):
    first_clock, second_clock = Clock(), Clock()
    first, second = make_lease("a", first_clock), make_lease("b", second_clock)
    await first.tend()
    before = await first.next_epoch()
    await second.tend()
    second_clock.at += TTL_S
    await second.tend()
    assert await second.next_epoch() > before
    assert first.is_held  # it slept: by its clock no time has passed
    with pytest.raises(NotLeading, match="another router has taken it over"):
        await first.next_epoch()
    assert not first.is_held
    await first.tend()
    assert not first.is_held


async def test_who_goes_leaves_the_lease_to_the_next_at_once(make_lease):
    first, second = make_lease("a", Clock()), make_lease("b", Clock())
    await first.tend()
    epoch = await first.next_epoch()
    await first.release()
    await second.tend()
    assert not first.is_held
    assert await second.next_epoch() > epoch


async def test_of_many_who_want_it_one_gets_it_and_no_epoch_is_given_twice(make_lease):
    leases = [make_lease(name, Clock()) for name in "abcdef"]
    await asyncio.gather(*(lease.tend() for lease in leases), return_exceptions=True)
    assert sum(lease.is_held for lease in leases) == 1
    leader = next(lease for lease in leases if lease.is_held)
    epochs = await asyncio.gather(*(leader.next_epoch() for _ in range(5)))
    assert len(set(epochs)) == 5


async def test_a_deleted_lease_is_anybodys_and_its_holder_finds_out(bus, make_lease):
    first, second = make_lease("a", Clock()), make_lease("b", Clock())
    await first.tend()
    await (await bus.js.key_value(streams.STATE)).delete(KEY)
    await second.tend()
    assert second.is_held
    with pytest.raises(NotLeading):
        await first.tend()


async def test_all_pools_are_tended_and_one_that_fails_to_begin_is_begun_later(bus):
    await streams.provision(bus.js)
    won, broken = [], {"edge"}

    async def win(pool):
        if pool in broken:
            raise RuntimeError("not yet")
        won.append(pool)

    leases = Leases(bus, "a", TTL_S, win)
    await leases.tend(["edge", "core"])
    assert await leases.wait_for("core", 20.0)
    assert not leases.leads("edge")
    waiting = asyncio.create_task(leases.wait_for("edge", 20.0))
    broken.clear()
    await leases.tend(["edge", "core"])
    assert await waiting
    assert won == ["core", "edge"]
    assert not await leases.wait_for("absent", 0.01)
    await leases.tend(["edge"])
    kv = await bus.js.key_value(streams.STATE)
    entry = codec.decode((await kv.get("lease.core")).value, Entry, origin="test")
    assert entry.free
    await eventually(lambda: not leases.leads("core"))
