"""Who is written first where slices share a capacity."""

import asyncio

from microopt.testing import eventually
from microopt_actuator.turns import Turns

CPU = "gnb_cpu"


async def test_what_shrinks_is_written_before_what_grows_so_that_the_sum_never_exceeds_the_capacity(
    world, allocation
):
    async with world(specs=("1", "2")) as it:
        for name, value in (("1", 3000.0), ("2", 1000.0)):
            it.reconciler.accept(allocation(1, {CPU: value}, name))
            await it.reaches((1, "applied"), (1, "verified"), slice_=name)
        it.shelf.writes.clear()
        it.reconciler.accept(allocation(2, {CPU: 3000.0}, "2"))
        it.reconciler.accept(allocation(2, {CPU: 1000.0}, "1"))
        await eventually(lambda: len(it.shelf.writes) == 2)
    assert it.shelf.writes == [("1.gnb_cpu", 1000.0), ("2.gnb_cpu", 3000.0)]


async def test_what_has_less_than_it_is_to_have_waits_for_itself_least_of_all():
    turns = Turns()
    turns.shrink(("edge", CPU), "1")
    async with asyncio.timeout(0.1):
        await turns.grow(("edge", CPU), "1")
        await turns.grow(("edge", CPU), "2")


async def test_after_a_restart_what_is_read_tells_who_shrinks(world, allocation, make_shelf):
    shelf = make_shelf({"1.gnb_cpu": 3000.0, "2.gnb_cpu": 1000.0})
    async with world(shelf, specs=("1", "2")) as it:
        it.shelf.slow_s = 0.05
        it.reconciler.accept(allocation(1, {CPU: 1000.0}, "1"))
        it.reconciler.accept(allocation(1, {CPU: 3000.0}, "2"))
        await eventually(lambda: len(it.shelf.writes) == 2)
    assert it.shelf.writes == [("1.gnb_cpu", 1000.0), ("2.gnb_cpu", 3000.0)]


async def test_one_that_cannot_shrink_holds_nobody_up_for_long(world, allocation):
    async with world(specs=("1", "2")) as it:
        for name in ("1", "2"):
            it.reconciler.accept(allocation(1, {CPU: 2000.0}, name))
            await it.reaches((1, "applied"), (1, "verified"), slice_=name)
        it.shelf.hanging.add("1.gnb_cpu")
        it.reconciler.accept(allocation(2, {CPU: 1000.0}, "1"))
        it.reconciler.accept(allocation(2, {CPU: 3000.0}, "2"))
        await eventually(lambda: it.shelf.values["2.gnb_cpu"] == 3000.0)
    assert it.shelf.values["1.gnb_cpu"] == 2000.0


async def test_slices_of_another_pool_and_other_resources_wait_for_nobody():
    turns = Turns()
    turns.shrink(("edge", CPU), "1")
    async with asyncio.timeout(0.1):
        await turns.grow(("core", CPU), "2")
        await turns.grow(("edge", "transport_bandwidth"), "2")


async def test_those_who_grow_wait_until_the_last_one_has_shrunk():
    turns, went = Turns(), []

    async def grow():
        await turns.grow(("edge", CPU), "3")
        went.append("3")

    turns.shrink(("edge", CPU), "1")
    turns.shrink(("edge", CPU), "2")
    growing = asyncio.create_task(grow())
    turns.done(("edge", CPU), "1")
    await asyncio.sleep(0)
    assert went == []
    turns.done(("edge", CPU), "2")
    await growing
    assert went == ["3"]
