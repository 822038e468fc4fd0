"""Operators' commands on routes, on a real broker: what is written, what is refused, and who was faster."""

import asyncio
import getpass
from datetime import UTC, datetime
from functools import partial

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from microopt import codec, desired, discovery, route_store, routes, streams, subjects
from microopt.agent import Agent
from microopt.cli import main
from microopt.cli.route import put
from microopt.errors import ConfigError
from microopt.messages import Problem
from microopt.route_store import RouteConflictError
from microopt.specs import Canary, Criteria, Route
from microopt.testing import eventually, running

SLICES = ("1-000001", "1-000002", "2")
ALIVE = ("one", "two", "peak")


@pytest.fixture
async def pools(bus, make_pool, make_slice):
    """Put two pools in force, one of three slices."""
    for name in ("edge", "core"):
        await bus.put_spec(streams.POOLS, name, make_pool(name))
    for name in SLICES:
        await bus.put_spec(streams.SLICES, name, make_slice(name))
    await bus.put_spec(streams.SLICES, "3", make_slice("3", pool="core"))


@pytest.fixture
async def workers(broker, bus):
    """Serve what is routed to in most tests, though nobody asks."""
    agent = Agent("workers")
    for name in ALIVE:
        agent.endpoint(name, subjects.optimize(name), Problem)(lambda problem, _: problem)
    async with running(agent, broker.url):
        await eventually(partial(_announced, bus))
        yield


async def _announced(bus) -> bool:
    return not await discovery.absent(bus.nc, ALIVE, 0.1)


@pytest.fixture
def microopt(broker, pools):
    """Run `microopt <words>` to its end; return its status, what it printed, and its warnings."""
    environ = {"NATS_URL": broker.url, "MICROOPT_CONFIG": None, "MICROOPT_NATS_URL": None}

    async def run(*words):
        done = await asyncio.to_thread(CliRunner().invoke, main, list(map(str, words)), env=environ)
        code = getattr(done.exception, "code", 0)
        said = f"{code}\n" if isinstance(code, str) else ""  # the runner prints it where a process does not
        return done.exit_code, done.stdout.removesuffix(said), done.stderr + said

    return run


@pytest.fixture
def changed(microopt, workers):
    """Run a command that must succeed without a warning; return what it printed."""

    async def run(*words):
        status, out, err = await microopt(*words)
        assert (status, err) == (0, ""), out + err
        return out.splitlines()

    return run


@pytest.fixture
def refused(microopt):
    """Run a command that must be refused; return what it says."""

    async def run(*words):
        status, out, err = await microopt(*words)
        assert status in (1, 2), out
        assert out == ""
        return err

    return run


@pytest.fixture
def standing(bus):
    """Return the route that stands, without who, when and why."""

    async def get(pool="edge"):
        return routes.content(await desired.get(bus, Route, pool))

    return get


async def revision(bus) -> int:
    return (await route_store.current(bus, "edge")).number


async def test_each_part_of_a_route_is_changed_by_itself(changed, standing):
    assert await changed("route", "set", "edge", "one") == ["edge: no optimizer → one"]
    assert await changed("route", "shadow", "edge", "two", "peak") == ["edge: shadow + two; shadow + peak"]
    assert await changed("route", "shadow", "edge", "two", "--remove") == ["edge: shadow − two"]
    assert await changed("route", "fallback", "edge", "peak", "two") == ["edge: fallbacks - → peak, two"]
    exception = ("--slice", "1-000002", "--slice", "2-FFFFFF")
    assert await changed("route", "set", "edge", "two", *exception) == [
        "edge: slice 1-000002: - → two; slice 2: - → two"
    ]
    assert await changed("route", "set", "edge", "-", "--slice", "2") == ["edge: slice 2: two → -"]
    assert await changed("route", "mode", "edge", "recommend", "--slice", "2") == [
        "edge: slice 2: mode - → recommend"
    ]
    assert await changed("freeze", "edge") == [
        "edge: mode apply → frozen",
        "  slice 2 keeps its own mode: recommend",
    ]
    assert await standing() == Route(
        pool="edge", active="one", shadows=("peak",), fallbacks=("peak", "two"), exceptions={"1-000002": "two"},
        mode="frozen", modes={"2": "recommend"},
    )  # fmt: skip
    assert await changed("route", "set", "edge", "two") == [
        "edge: one → two",
        "  slice 1-000002 keeps its exception: two",
        "  the pool's mode stays frozen",
    ]
    assert await changed("route", "fallback", "edge") == ["edge: fallbacks peak, two → -"]


async def test_a_swap_tells_what_else_it_ends(changed):
    await changed("route", "set", "edge", "one")
    await changed("route", "shadow", "edge", "two", "peak")
    await changed("route", "canary", "edge", "two", "--share", "100%")
    assert await changed("route", "set", "edge", "two") == ["edge: one → two; shadow − two; canary two ended"]


async def test_frozen_slices_are_freed_by_name_or_with_the_pool(changed, refused, standing):
    await changed("route", "set", "edge", "one")
    await changed("freeze", "edge", "--slice", "2", "--shrink-only", "--reason", "stadium")
    assert (await standing()).modes == {"2": "no-shrink"}
    assert "pool edge is not frozen: its mode is apply; of its slices, 2 are" in await refused("unfreeze", "edge")
    await changed("unfreeze", "edge", "--slice", "2")
    assert await standing() == Route(pool="edge", active="one")
    await changed("freeze", "edge")
    assert await changed("unfreeze", "edge", "--slice", "2") == ["edge: slice 2: mode - → apply"]
    await changed("unfreeze", "edge")
    assert await standing() == Route(pool="edge", active="one")


async def test_a_freeze_of_a_slice_and_one_of_its_pool_are_lifted_apart(changed, refused, standing):
    await changed("route", "set", "edge", "one")
    await changed("freeze", "edge", "--slice", "2", "--reason", "fault 4711")
    await changed("freeze", "edge", "--shrink-only", "--reason", "concert")
    assert await changed("unfreeze", "edge", "--slice", "2") == [
        "edge: slice 2: mode frozen → -",
        "  slice 2 follows its pool: no-shrink",
    ]
    assert (await standing()).mode_of("2") == "no-shrink"
    await changed("route", "mode", "edge", "recommend")
    assert "pool edge is only recommended for" in await refused("freeze", "edge")
    assert await changed("route", "mode", "edge", "frozen") == ["edge: mode recommend → frozen"]


async def test_a_canary_is_started_grown_and_promoted(changed, standing):
    await changed("route", "set", "edge", "one")
    before = datetime.now(UTC)
    out = await changed(
        "route", "canary", "edge", "two", "--slice", "2", "--intervals", 6, "--cost-ratio", 0.98,
        "--unfulfilled", "2%", "--failures", 0.01, "--latency-s", 0.5,
    )  # fmt: skip
    assert out[0].startswith("edge: canary two for slices 2, 6 intervals; criteria cost ≤ 0.98 × the active's, ")
    assert out[1:] == ["  1 of 3 slices: 2"]
    first = (await standing()).canary
    criteria = Criteria(cost_ratio=0.98, unfulfilled=0.02, failures=0.01, latency_s=0.5)
    assert first == Canary(optimizer="two", slices=("2",), intervals=6, criteria=criteria, since=first.since)
    assert first.since >= before

    assert (await changed("route", "canary", "edge", "two", "--share", "100%"))[1] == (
        "  3 of 3 slices: 1-000001, 1-000002, 2"
    )
    grown = (await standing()).canary
    assert grown == replace(first, slices=(), share=1.0, since=grown.since)
    assert grown.since > first.since
    out = await changed("route", "promote", "edge", "--reason", "as good, and cheaper")
    assert out == ["edge: active one → two; fallbacks - → one; canary two ended"]
    assert await standing() == Route(pool="edge", active="two", fallbacks=("one",))


async def test_an_exception_that_takes_a_canarys_last_slice_is_told(changed):
    await changed("route", "set", "edge", "one")
    await changed("route", "canary", "edge", "two", "--slice", "2")
    assert await changed("route", "set", "edge", "peak", "--slice", "2") == [
        "edge: slice 2: - → peak",
        "  the canary two is left without a slice: it is not judged",
    ]


async def test_a_canary_is_told_of_slices_that_it_is_not_asked_for(changed):
    await changed("route", "set", "edge", "one")
    await changed("freeze", "edge", "--slice", "2")
    out = await changed("route", "canary", "edge", "two", "--slice", "2", "--slice", "1-000001")
    assert out[1:] == [
        "  2 of 3 slices: 1-000001, 2",
        "  not asked for slices whose mode is frozen or recommend: 2",
    ]


async def test_a_rollback_ends_a_canary_and_undoes_a_swap(changed, refused, standing, bus):
    await changed("route", "set", "edge", "one")
    first = await revision(bus)
    assert "no former route that differs; former revisions: none" in await refused("route", "rollback", "edge")
    await changed("route", "canary", "edge", "two", "--share", "100%")
    out = await changed("route", "rollback", "edge")
    assert out[0] == "edge: canary two ended"
    assert out[1].startswith(f"  as in revision {first}, of 20")
    await changed("route", "set", "edge", "peak")
    await changed("route", "set", "edge", "two")
    assert (await changed("route", "rollback", "edge"))[0] == "edge: active two → peak"
    assert (await changed("route", "rollback", "edge", "--to", first))[0] == "edge: active peak → one"
    assert (await standing()).active == "one"
    assert (await desired.get(bus, Route, "edge")).reason == f"rollback to revision {first}"
    said = await refused("route", "rollback", "edge", "--to", first + 100)
    assert f"no former route of revision {first + 100}; former revisions: " in said


async def test_a_route_that_was_removed_or_spoilt_comes_back(changed, standing, bus):
    await changed("route", "set", "edge", "one")
    kv = await bus.js.key_value(streams.ROUTES)
    await kv.delete("edge")
    assert (await changed("route", "rollback", "edge"))[0] == "edge: new: active one"
    await kv.put("edge", b"junk")
    assert (await changed("route", "rollback", "edge"))[0] == "edge: new: active one"
    await kv.delete("edge")
    await changed("route", "set", "edge", "two")
    assert await standing() == Route(pool="edge", active="two")
    out = await changed("route", "show", "edge", "--history")
    told = [line.split("UTC", 1)[1].partition(": ")[2] for line in out[1:]]
    assert told[3].startswith("routes/edge: not a valid Route")
    assert told[:3] + told[4:] == [
        "active one → two; -",
        "removed",
        "nothing changed; rollback to revision 3",
        "nothing changed; rollback to revision 1",
        "removed",
        "new: active one; -",
    ]


async def test_the_history_of_a_removed_or_spoilt_route_is_shown(changed, refused, bus):
    await changed("route", "set", "edge", "one", "--reason", "first")
    kv = await bus.js.key_value(streams.ROUTES)
    await kv.delete("edge")
    assert "pool edge has no route" in await refused("route", "show", "edge")
    out = await changed("route", "show", "edge", "--history")
    assert out[0] == "edge: its route was removed; to bring one back: `microopt route rollback edge`"
    assert out[1].endswith("UTC: removed")
    assert out[2].endswith("new: active one; first")
    await kv.put("edge", b"junk")
    out = await changed("route", "show", "edge", "--history")
    assert out[0].startswith("routes/edge: not a valid Route")
    assert len(out) == 4


async def test_show_tells_all_of_a_route_and_its_history(changed, bus):
    await changed("route", "set", "edge", "one", "--reason", "first")
    await changed("route", "shadow", "edge", "two")
    await changed("route", "fallback", "edge", "peak")
    await changed("route", "set", "edge", "peak", "--slice", "2")
    await changed("route", "canary", "edge", "two", "--slice", "1-000001", "--intervals", 3)
    await changed("freeze", "edge", "--shrink-only", "--reason", "stadium")
    await changed("route", "set", "core", "one")
    me = getpass.getuser()
    out = await changed("route", "show", "edge", "--history")
    assert out[0].startswith("edge: active one; shadows two; changed 20")
    assert out[0].endswith(f" UTC by {me}; stadium")
    assert out[1:3] == ["  fallbacks   peak", "  exception   slice 2: peak"]
    assert out[3].startswith("  canary      two for slices 1-000001, 3 intervals, since 20")
    assert out[4].startswith("              promoted if cost ≤ 1.01 × the active's")
    assert out[5] == "  mode        no-shrink"
    told = [line.split(f"UTC by {me}: ")[1] for line in out[6:]]
    assert told == [
        "mode apply → no-shrink; stadium",
        "canary two for slices 1-000001, 3 intervals; -",
        "slice 2: - → peak; -",
        "fallbacks - → peak; -",
        "shadow + two; -",
        "new: active one; first",
    ]
    numbers = [int(line.split()[1]) for line in out[6:]]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] == await revision(bus)
    assert len([line for line in await changed("route", "show") if not line.startswith(" ")]) == 2


async def test_scripts_get_each_route_as_it_stands(changed, bus):
    for pool, optimizer in (("edge", "one"), ("core", "two")):
        await changed("route", "set", pool, optimizer, "--reason", "first")
    for words, pools in ((("edge",), ["edge"]), ((), ["core", "edge"])):
        out = await changed("route", "show", *words, "--json")
        found = [codec.decode(line.encode(), Route, origin="stdout") for line in out]
        assert found == [await desired.get(bus, Route, pool) for pool in pools]


async def test_a_route_that_stands_under_another_pools_name_is_not_built_upon(bus, pools, refused):
    """No agent takes it, so that whatever is written on top of it would freeze or swap nothing."""
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="core", active="one"))
    assert "routes/edge: is of 'core', but stands under 'edge'" in await refused("freeze", "edge")
    assert "routes/edge: is of 'core', but stands under 'edge'" in await refused("route", "show", "edge")


async def test_what_is_so_already_is_not_written_again(changed, bus):
    await changed("route", "set", "edge", "one")
    number = await revision(bus)
    for words in (("route", "set", "edge", "one"), ("route", "mode", "edge", "apply")):
        assert await changed(*words) == ["edge: is so already; nothing was written"]
    assert await revision(bus) == number


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("route", "show", "edga"), "unknown pool 'edga'; pools: core, edge"),
        (("freeze", "edga"), "unknown pool 'edga'; pools: core, edge"),
        (("route", "show", "core"), "pool core has no route; set one: `microopt route set core OPTIMIZER`"),
        (("route", "promote", "core"), "pool core has no route; set one: `microopt route set core OPTIMIZER`"),
        (("freeze", "edge", "--slice", "3"), "unknown slice 3 in pool edge; slices: 1-000001, 1-000002, 2"),
        (("freeze", "edge", "--slice", "x"), "slice 'x': not an S-NSSAI"),
        (("route", "set", "edge", "-"), "- removes the exceptions of slices: name them with --slice"),
        (("route", "canary", "edge", "two"), "give either --share or --slice"),
        (("route", "canary", "edge", "two", "--share", "1%", "--slice", "2"), "give either --share or --slice"),
        (("route", "canary", "edge", "two", "--share", "0%"), "0% is no slice"),
        (("route", "canary", "edge", "two", "--share", "ten"), "'ten' is not a share; write 10% or 0.1"),
        (("route", "canary", "edge", "two", "--share", "101%"), "'101%' is not a share"),
        (
            ("route", "canary", "edge", "two", "--share", "100%", "--cost-ratio", "0"),
            "criteria: Expected `float` > 0.0",
        ),
        (("route", "canary", "edge", "one", "--share", "100%"), "pool edge: one is active already"),
        (("route", "shadow", "edge", "No Name"), "'No Name' is no optimizer's name; write small letters"),
        (("route", "set", "edge", "a.b"), "'a.b' is no optimizer's name"),
        (("route", "promote", "edge"), "pool edge has no canary"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_remedy_and_changes_nothing(refused, bus, words, said):
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one"))
    number = await revision(bus)
    assert said in await refused(*words)
    assert await revision(bus) == number


async def test_an_optimizer_that_nobody_announces_is_warned_of_and_routed_to_all_the_same(
    microopt, workers, standing
):
    status, out, err = await microopt("route", "set", "edge", "gone")
    assert (status, out) == (0, "edge: no optimizer → gone\n")
    assert err == "warning: no NATS service announces optimizer gone right now; see `microopt optimizers`\n"
    assert (await standing()).active == "gone"
    status, _, err = await microopt("route", "fallback", "edge", "peak", "absent", "two")
    assert (status, err.count("warning")) == (0, 1)


@pytest.mark.parametrize("named", ["alice", ""])
async def test_who_changed_the_route_meanwhile_is_told_and_nothing_is_written(
    bus, pools, refused, standing, named
):
    """The command reads the route, asks who is alive, and writes: it is overtaken while it waits for answers."""
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one"))
    other = Route(pool="edge", active="two", changed_by=named, changed_at=datetime.now(UTC), reason="faster")

    async def overtake(_):
        await bus.put_spec(streams.ROUTES, "edge", other)

    await bus.nc.subscribe("$SRV.INFO", cb=overtake)
    await bus.nc.flush()
    said = await refused("route", "set", "edge", "absent")
    who = f"by {named}" if named else "by somebody who gave no name"
    assert (
        f"the route of pool edge was changed meanwhile {who} at {other.changed_at:%H:%M:%S} UTC (faster)" in said
    )
    assert "nothing was written: look at `microopt route show edge --history`" in said
    assert await standing() == Route(pool="edge", active="two")


async def test_of_changes_made_from_one_revision_one_is_written(bus, pools):
    await put(bus, "edge", "one", by="me", reason="")
    on = await route_store.current(bus, "edge")
    write = partial(route_store.write, bus, on, by="me", reason="")
    attempts = [write(routes.with_shadows(on.require(), [f"s{n}"])) for n in range(8)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    [won] = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, int)]
    assert sum(isinstance(outcome, RouteConflictError) for outcome in outcomes) == 7
    assert (await desired.get(bus, Route, "edge")).shadows == (f"s{won}",)


async def test_a_route_that_was_removed_meanwhile_is_not_made_anew(bus, pools):
    await put(bus, "edge", "one", by="me", reason="")
    on = await route_store.current(bus, "edge")
    await (await bus.js.key_value(streams.ROUTES)).delete("edge")
    with pytest.raises(RouteConflictError, match="was removed or spoilt meanwhile; nothing was written"):
        await route_store.write(bus, on, on.require(), by="me", reason="")
    assert await desired.get(bus, Route, "edge") is None


async def test_agents_change_a_route_by_the_same_rules(bus, pools):
    with pytest.raises(ConfigError, match="pool edge has no route"):
        await route_store.change(bus, "edge", routes.promoted, by="auditor", reason="")
    await put(bus, "edge", "one", by="me", reason="")
    canary = Canary(optimizer="two", share=1.0)
    await route_store.change(bus, "edge", lambda r: replace(r, canary=canary), by="me", reason="")
    after = await route_store.change(bus, "edge", routes.promoted, by="auditor", reason="kept its criteria")
    kept = await desired.get(bus, Route, "edge")
    assert (routes.content(kept), kept.changed_by, kept.reason) == (
        routes.content(after), "auditor", "kept its criteria",
    )  # fmt: skip
    number = await revision(bus)
    await route_store.change(bus, "edge", routes.without_canary, by="auditor", reason="")
    assert await revision(bus) == number


async def test_a_revision_that_cannot_be_read_is_told_in_the_history(bus, pools, changed):
    kv = await bus.js.key_value(streams.ROUTES)
    await kv.put("edge", b"junk")
    await kv.put("edge", codec.encode(Route(pool="edge", active="one")))
    out = await changed("route", "show", "edge", "--history")
    assert "UTC: new: active one" in out[1]
    assert "UTC: routes/edge: not a valid Route" in out[2]
