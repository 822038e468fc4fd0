"""A dry run over a driver that would write."""

import structlog

from microopt_actuator.dry_run import DryRun


async def test_a_dry_run_says_what_would_be_written_and_writes_nothing(make_shelf):
    shelf = make_shelf({"cpu": 700.0})
    dry = DryRun(shelf)
    with structlog.testing.capture_logs() as lines:
        await dry.apply(await dry.plan("cpu", 2000.0))
    assert shelf.writes == []
    assert await dry.read("cpu") == 2000.0
    (line,) = lines
    assert (line["event"], line["has"], line["steps"]) == ("would_write", 700.0, ("cpu = 2000",))


async def test_a_dry_run_sees_what_somebody_else_writes(make_shelf):
    shelf = make_shelf({"cpu": 700.0})
    dry = DryRun(shelf)
    await dry.apply(await dry.plan("cpu", 2000.0))
    shelf.values["cpu"] = 900.0
    assert await dry.read("cpu") == 900.0
    shelf.values["cpu"] = 700.0
    assert await dry.read("cpu") == 700.0


async def test_a_dry_run_reads_what_is_not_written_as_it_is(make_shelf):
    assert await DryRun(make_shelf({"cpu": 700.0})).read("cpu") == 700.0
    assert await DryRun(make_shelf()).read("cpu") is None
