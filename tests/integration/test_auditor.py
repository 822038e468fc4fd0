"""The auditor on a real bus: shadows that behave and misbehave, intervals, margins and canaries."""

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from nats.js.errors import NotFoundError

from microopt import codec, desired, streams, subjects
from microopt.agent import Agent
from microopt.errors import InvalidMessageError
from microopt.messages import (
    Allocation,
    Answer,
    Asked,
    Assurance,
    Check,
    Checked,
    Event,
    Interval,
    Problem,
    SliceCheck,
    SliceProblem,
    SliceSolution,
    Solution,
    Telemetry,
    Traffic,
)
from microopt.settings import Settings
from microopt.specs import Canary, Margin, Route
from microopt.testing import eventually, running
from microopt_optimizer.auditor.agent import build
from microopt_optimizer.auditor.following import Following
from microopt_optimizer.auditor.margins import Margins, no_margins

GOOD = {"transport_bandwidth": 20.0, "gnb_cpu": 2250.0}
FAST = {"answer_within_s": 2.0, "look_every_s": 0.05, "late_s": 0.2, "stale_after_s": 0.0}
INTERVAL_S = 60.0
SLOT_S = 6.0


def auditor(rule=no_margins, **settings) -> Agent:
    return build(Settings({"auditor": {**FAST, **settings}}, "test"), rule)


async def stored(bus, kind) -> list:
    """Return everything that a stream holds, in order."""
    name, found, sequence = streams.STREAM_OF[kind], [], 0
    while True:
        try:
            message = await bus.js.get_msg(name, sequence + 1, subjects.ALL[kind], next=True)
        except NotFoundError:
            return found
        sequence = message.seq
        found.append(codec.decode(message.data, kind, origin=name))


async def count_of(bus, kind, count) -> list | None:
    found = await stored(bus, kind)
    return found if len(found) == count else None


@pytest.fixture
async def slices(bus, make_pool, make_slice):
    """Put a pool and its two slices."""
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    for name in ("1", "2"):
        await bus.put_spec(streams.SLICES, name, make_slice(name, interval_s=INTERVAL_S, slot_s=SLOT_S))


def over(ago: int = 0) -> Interval:
    """Return an interval that is over since a second, or one that lies `ago` intervals before it."""
    return Interval(datetime.now(UTC) - timedelta(seconds=(ago + 1) * INTERVAL_S + 1), INTERVAL_S)


# Shadows


def solution(problem: Problem, name: str, cpu: float = 2250.0) -> Solution:
    values = {**GOOD, "gnb_cpu": cpu}
    slices = [SliceSolution(slice=s.slice, allocation=values, status="optimal") for s in problem.slices]
    return Solution(pool=problem.pool, interval=problem.interval, optimizer=name, slices=slices)


def optimizer(name: str, answer) -> Agent:
    agent = Agent(f"optimizer-{name}")

    @agent.endpoint(name, subjects.optimize(name), Problem)
    async def solve(problem, _):
        return await answer(problem)

    return agent


def good(name: str, asked: list | None = None) -> Agent:
    async def answer(problem):
        if asked is not None:
            asked.append(problem)
        return solution(problem, name)

    return optimizer(name, answer)


def mute(name: str) -> Agent:
    async def answer(_):
        await asyncio.Event().wait()

    return optimizer(name, answer)


def checker() -> Agent:
    agent = Agent("checker")

    @agent.endpoint("check", subjects.CHECK, Check)
    async def check(asked, _):
        return Checked(slices=[SliceCheck(slice=s, expected_degradation=0.07) for s in asked.allocations])

    return agent


@pytest.fixture
def make_asked(make_pool, make_slice):
    """Build what the router says that it asked."""

    def build(*shadows: str, epoch: int = 1, start: datetime | None = None, duration_s: float = 60.0) -> Asked:
        spec, now = make_slice(), start or datetime.now(UTC)
        slices = [
            SliceProblem(slice=n, sla=spec.sla, traffic=Traffic((3.0,), (1.0,)), bounds=spec.bounds, model="embb")
            for n in ("1", "2")
        ]
        problem = Problem(
            pool="edge", interval=Interval(now, duration_s), resources=make_pool().resources, slices=slices
        )
        return Asked(problem=problem, active="one", at=now, shadows=shadows, epoch=epoch)

    return build


async def test_a_shadow_gets_the_very_problem_and_its_answer_is_kept_with_checks(bus, broker, make_asked):
    seen, asked = [], make_asked("two")
    async with (
        running(auditor(), broker.url),
        running(good("two", seen), broker.url),
        running(checker(), broker.url),
    ):
        await ready(bus, checks=True, optimizers=("two",))
        await bus.publish(asked)
        [answer] = await eventually(lambda: count_of(bus, Answer, 1))
    assert [problem.id for problem in seen] == [asked.problem.id] == [answer.problem]
    assert (answer.role, answer.optimizer, answer.refused, answer.error) == ("shadow", "two", {}, "")
    assert answer.solution == solution(asked.problem, "two")
    assert {check.slice: check.expected_degradation for check in answer.checks} == {"1": 0.07, "2": 0.07}
    assert answer.latency_s > 0.0


async def ready(bus, *, checks: bool = False, optimizers=()) -> None:
    """Wait until those that are to answer do."""
    wanted = [subjects.optimize(name) for name in optimizers] + ([subjects.CHECK] if checks else [])
    for subject in wanted:
        await eventually(lambda subject=subject: _is_served(bus, subject))


async def _is_served(bus, subject) -> bool:
    """Say whether there is somebody: what is no problem is answered with an error."""
    try:
        await bus.nc.request(subject, b"{}", timeout=5)
    except Exception:
        return False
    return True


async def test_without_anybody_who_checks_answers_are_kept_all_the_same(bus, broker, make_asked):
    async with running(auditor(), broker.url), running(good("two"), broker.url):
        await ready(bus, optimizers=("two",))
        await bus.publish(make_asked("two"))
        [answer] = await eventually(lambda: count_of(bus, Answer, 1))
    assert answer.solution is not None
    assert answer.checks == []


async def test_shadows_that_hang_talk_nonsense_or_are_absent_harm_nobody(bus, broker, make_asked):
    async def nonsense(subscription):
        await subscription.respond(b'{"type":"microopt.solution.v1","pool":7}')

    await bus.nc.subscribe(subjects.optimize("liar"), cb=nonsense)
    async with (
        running(auditor(at_once=1, backlog=2), broker.url),
        running(mute("mute"), broker.url),
        running(good("two"), broker.url),
    ):
        await ready(bus, optimizers=("two",))
        for epoch in range(1, 6):
            await bus.publish(make_asked("mute", "absent", "liar", "two", epoch=epoch))
            await eventually(lambda epoch=epoch: _answered(bus, "two", epoch))
        await eventually(lambda: _answered(bus, "mute", 2))  # the others were skipped
        answers = await stored(bus, Answer)
    errors = {a.optimizer: a.error for a in answers if a.solution is None}
    assert "no answer within 2 s" in errors["mute"]
    assert "nobody serves microopt.optimize.absent" in errors["absent"]
    assert "not a valid Solution" in errors["liar"]
    two = [a.at for a in answers if a.optimizer == "two"]
    assert max(two) < min(a.at for a in answers if a.optimizer == "mute")


async def _answered(bus, name, count) -> bool:
    return sum(a.optimizer == name for a in await stored(bus, Answer)) == count


async def test_what_the_guard_would_refuse_of_a_shadow_is_said(bus, broker, make_asked):
    async def answer(problem):
        return solution(problem, "two", cpu=9e9)

    async with running(auditor(), broker.url), running(optimizer("two", answer), broker.url):
        await ready(bus, optimizers=("two",))
        await bus.publish(make_asked("two"))
        [kept] = await eventually(lambda: count_of(bus, Answer, 1))
    assert kept.refused == dict.fromkeys("12", "gnb_cpu 9e+09 is outside 500 to 4500")


async def test_a_problem_whose_interval_is_over_is_given_to_no_shadow(bus, broker, make_asked):
    seen, now = [], datetime.now(UTC)
    async with running(auditor(), broker.url), running(good("two", seen), broker.url):
        await ready(bus, optimizers=("two",))
        await bus.publish(make_asked("two", start=now - timedelta(seconds=2), duration_s=1.0))
        current = make_asked("two", epoch=2)
        await bus.publish(current)
        await eventually(lambda: _answered(bus, "two", 1))
    assert [problem.id for problem in seen] == [current.problem.id]


# Intervals


async def play(bus, interval: Interval, slice_: str, missed: int = 0, *, epoch: int, users: float = 2.0, slots=10):
    """Publish an interval's telemetry, of whose slots the first `missed` were bad, and its allocation.

    In this order, as the interval is over and thus due as soon as it is known.
    """
    for n in range(slots):
        time, qos = interval.start + timedelta(seconds=n * SLOT_S), 3.0 if n < missed else 5.0
        await bus.publish(Telemetry(slice=slice_, time=time, slot_s=SLOT_S, users=users, qos=qos))
    await bus.publish(allocated(slice_, interval, epoch))


def allocated(slice_: str, interval: Interval, epoch: int) -> Allocation:
    """Return the allocation of an interval."""
    return Allocation(
        slice=slice_,
        pool="edge",
        interval=interval,
        epoch=epoch,
        values=GOOD,
        valid_until=interval.start,
        optimizer="one",
        status="optimal",
        expected_degradation=0.05,
    )


async def test_an_interval_that_is_over_becomes_an_assurance_of_each_slice(bus, broker, slices):
    interval = over()
    async with running(auditor(), broker.url):
        await play(bus, interval, "1", missed=1, epoch=1)
        await play(bus, interval, "2", missed=4, epoch=1)
        found = await eventually(lambda: count_of(bus, Assurance, 2))
    by_slice = {one.slice: one for one in found}
    assert (by_slice["1"].status, by_slice["1"].realised) == ("FULFILLED", 0.1)
    assert (by_slice["2"].status, by_slice["2"].realised) == ("NOT_FULFILLED", 0.4)
    assert by_slice["1"].cost == pytest.approx(20 / 50 + 0.5)
    assert (by_slice["1"].users_slots, by_slice["1"].slots, by_slice["1"].known_slots) == (20.0, 10, 10)


async def test_an_interval_is_not_judged_before_it_is_over(bus, broker, slices):
    running_on = Interval(datetime.now(UTC) - timedelta(seconds=2), INTERVAL_S)
    async with running(auditor(), broker.url):
        await play(bus, running_on, "1", epoch=2)
        await play(bus, over(), "2", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        await asyncio.sleep(0.3)
        assert [one.slice for one in await stored(bus, Assurance)] == ["2"]


async def test_a_restarted_auditor_says_nothing_twice_and_leaves_nothing_out(bus, broker, slices):
    async with running(auditor(), broker.url):
        await play(bus, over(1), "1", epoch=1)
        [first] = await eventually(lambda: count_of(bus, Assurance, 1))
    await forget_ids(bus)
    await play(bus, Interval(first.interval.end, INTERVAL_S), "1", missed=10, epoch=2)  # nobody looks
    async with running(auditor(), broker.url):
        found = await eventually(lambda: count_of(bus, Assurance, 2))
        await asyncio.sleep(0.3)
        assert await stored(bus, Assurance) == found
    assert [(one.epoch, one.realised) for one in found] == [(1, 0.0), (2, 1.0)]
    await forget_ids(bus)
    async with running(auditor(), broker.url):
        await asyncio.sleep(1.0)
    assert await stored(bus, Assurance) == found


async def forget_ids(bus) -> None:
    """Let the server forget the ids that it has seen, as it does after two minutes."""
    config = (await bus.js.stream_info(streams.ASSURANCES)).config
    config.duplicate_window = 0.1
    await bus.js.update_stream(config)
    await asyncio.sleep(0.3)


async def test_two_auditors_say_each_interval_once(bus, broker, slices):
    async with running(auditor(), broker.url), running(auditor(), broker.url):
        for name in ("1", "2"):
            await play(bus, over(), name, epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 2))
        await asyncio.sleep(0.3)
    assert sorted(one.slice for one in await stored(bus, Assurance)) == ["1", "2"]


async def test_what_is_no_telemetry_is_kept_aside_and_stops_nothing(bus, broker, slices):
    async with running(auditor(), broker.url):
        await bus.js.publish("microopt.telemetry.1", b'{"type":"microopt.telemetry.v1","users":-1}')
        forged = Telemetry(slice="2", time=datetime.now(UTC), slot_s=SLOT_S, users=1.0, qos=1.0)
        await bus.js.publish("microopt.telemetry.1", codec.encode(forged))
        await play(bus, over(), "1", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        dead = (await bus.js.stream_info(streams.DEAD)).state.messages
    assert dead == 2


async def test_an_interval_that_cannot_be_put_into_words_stops_no_other_slice(bus, broker, slices):
    """Each number is one that telemetry may hold, and their sum is none that an assurance may."""
    async with running(auditor(), broker.url):
        await play(bus, over(), "2", epoch=1, users=1e12)
        await play(bus, over(), "1", epoch=1)
        [found] = await eventually(lambda: count_of(bus, Assurance, 1))
    assert found.slice == "1"


async def test_an_allocation_that_ends_after_the_last_year_is_kept_aside_and_stops_nothing(bus, broker, slices):
    absurd = Interval(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), INTERVAL_S)
    async with running(auditor(), broker.url):
        await bus.js.publish("microopt.allocation.2", codec.encode(allocated("2", absurd, epoch=1)))
        await play(bus, over(), "1", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        assert (await bus.js.stream_info(streams.DEAD)).state.messages == 1


async def test_what_a_reader_fails_at_is_kept_aside_and_nothing_is_read_twice(bus):
    for name in ("1", "2", "3"):
        await bus.publish(Telemetry(slice=name, time=datetime.now(UTC), slot_s=SLOT_S, users=1.0, qos=1.0))
    since, taken = datetime.now(UTC) - timedelta(minutes=1), []
    following = Following(bus, Telemetry, subjects.ALL[Telemetry], since=since)

    def take(telemetry, _):
        taken.append(telemetry.slice)
        if telemetry.slice == "2":
            raise ZeroDivisionError

    await following.read(take)
    await following.read(take)
    assert taken == ["1", "2", "3"]
    dead = await bus.js.get_last_msg(streams.DEAD, subjects.dead("test"))
    assert dead.headers["Microopt-Error"].startswith("ZeroDivisionError")


async def test_an_assurance_that_cannot_be_read_holds_up_no_later_one(bus, broker, slices):
    await bus.js.publish("microopt.assurance.1", b"junk")
    async with running(auditor(), broker.url):
        await play(bus, over(1), "1", epoch=1)
        first = await eventually(lambda: last_said(bus, epoch=1))
        await bus.js.publish("microopt.assurance.1", b"more junk")
        await play(bus, Interval(first.interval.end, INTERVAL_S), "1", epoch=2)
        await eventually(lambda: last_said(bus, epoch=2))


async def last_said(bus, epoch: int) -> Assurance | None:
    try:
        message = await bus.js.get_last_msg(streams.ASSURANCES, "microopt.assurance.1")
        found = codec.decode(message.data, Assurance, origin=message.subject)
    except (NotFoundError, InvalidMessageError):
        return None
    return found if found.epoch == epoch else None


async def test_a_stream_of_assurances_that_is_emptied_is_filled_again(bus, broker, slices):
    async with running(auditor(), broker.url):
        await play(bus, over(1), "1", epoch=1)
        [first] = await eventually(lambda: count_of(bus, Assurance, 1))
        await bus.js.purge_stream(streams.ASSURANCES)
        await play(bus, Interval(first.interval.end, INTERVAL_S), "1", epoch=2)
        await eventually(lambda: last_said(bus, epoch=2))


# Margins


async def test_margins_follow_a_rule_once_for_each_interval_and_large_changes_are_events(bus, broker, slices):
    learned = []

    def rule(margin, spec, assurance):
        learned.append((margin.degradation_threshold if margin else None, assurance.realised))
        threshold = 0.095 if margin is None else 0.05
        return Margin(slice=spec.slice, degradation_threshold=threshold)

    async with running(auditor(rule), broker.url), running(auditor(rule), broker.url):
        await play(bus, over(1), "1", missed=5, epoch=1)
        first = await eventually(lambda: desired.get(bus, Margin, "1"))
        assert first.degradation_threshold == 0.095
        assert await stored(bus, Event) == []  # by 5 %
        [assurance] = await stored(bus, Assurance)
        await play(bus, Interval(assurance.interval.end, INTERVAL_S), "1", missed=6, epoch=2)
        [event] = await eventually(lambda: count_of(bus, Event, 1))
    assert list(dict.fromkeys(learned)) == [(None, 0.5), (0.095, 0.6)]  # both may try, one writes
    assert (event.kind, event.slice, event.epoch) == ("margin", "1", 2)
    assert re.search(r"a degradation of 0\.05 in place of 0\.(1|095) ", event.reason)  # as the teller had seen it
    kept = await desired.get(bus, Margin, "1")
    assert (kept.degradation_threshold, kept.at) == (0.05, event.interval.end)
    assert kept.sla_threshold == 0.1  # the SLA's, so that it is known when that is another one


async def test_an_interval_whose_margin_was_lost_in_a_crash_is_learned_from_at_the_start(bus, broker, slices):
    async with running(auditor(), broker.url):  # has no rule, and so learns nothing
        await play(bus, over(), "1", missed=5, epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))

    def rule(_, spec, assurance):
        return Margin(slice=spec.slice, degradation_threshold=assurance.realised / 10)

    async with running(auditor(rule), broker.url):
        margin = await eventually(lambda: desired.get(bus, Margin, "1"))
    assert margin.degradation_threshold == 0.05


async def test_a_margin_learns_from_what_an_auditor_said_that_did_not_live_to_learn(bus, broker, slices):
    def rule(_, spec, assurance):
        return Margin(slice=spec.slice, degradation_threshold=assurance.realised / 10)

    async with running(auditor(rule), broker.url):
        await play(bus, over(), "2", epoch=1)
        [own] = await eventually(lambda: count_of(bus, Assurance, 1))  # it has begun to follow them
        await bus.publish(replace(own, slice="1", status="NOT_FULFILLED", realised=0.5))
        margin = await eventually(lambda: desired.get(bus, Margin, "1"))
    assert margin.degradation_threshold == 0.05


async def test_a_margin_learns_nothing_while_a_mode_keeps_what_is_in_force(bus, make_slice):
    """It would ask for more and more, and nobody would have tried what it asked for before."""
    margins = Margins(bus, lambda _, spec, __: Margin(slice=spec.slice, degradation_threshold=0.05))
    frozen = Assurance(
        slice="1",
        pool="edge",
        interval=over(),
        epoch=1,
        optimizer="one",
        status="NOT_FULFILLED",
        degradation_threshold=0.1,
        cost=1.0,
        at=datetime.now(UTC),
        realised=0.5,
        fallback="force",
    )
    await margins.learn(frozen, make_slice("1"))
    assert await desired.get(bus, Margin, "1") is None
    await margins.learn(replace(frozen, fallback="last"), make_slice("1"))
    assert await desired.get(bus, Margin, "1") is not None


async def test_a_rule_that_fails_stops_no_assurance(bus, broker, slices):
    def rule(*_):
        raise ZeroDivisionError

    async with running(auditor(rule), broker.url):
        await play(bus, over(), "1", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        await play(bus, over(), "2", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 2))


# Canaries


ROUTE = Route(
    pool="edge", active="one", fallbacks=("peak",), canary=Canary(optimizer="two", slices=("1",), intervals=3)
)


async def set_canary(bus, **changes) -> datetime:
    """Set a route with a canary since four intervals ago; return then."""
    since = datetime.now(UTC) - timedelta(seconds=4 * INTERVAL_S)
    await bus.put_spec(
        streams.ROUTES, "edge", replace(ROUTE, canary=replace(ROUTE.canary, since=since, **changes))
    )
    return since


async def try_out(
    bus, since: datetime, n: int, asked: Asked, cpu: float, error: str = "", active: str = "one"
) -> None:
    """Publish the answers of active and canary for interval `n`, and the assurance of the canary's slice."""
    interval = Interval(since + timedelta(seconds=n * INTERVAL_S), INTERVAL_S)
    problem = replace(asked.problem, interval=interval)
    for role, name, its_cpu in (("active", active, 2250.0), ("canary", "two", cpu)):
        given = None if error and role == "canary" else solution(problem, name, its_cpu)
        answer = Answer(
            pool="edge",
            interval=interval,
            problem=problem.id,
            optimizer=name,
            role=role,
            at=interval.start,
            solution=given,
            error="" if given else error,
            latency_s=0.1,
        )
        await bus.publish(answer)
    await bus.publish(
        Assurance(
            slice="1",
            pool="edge",
            interval=interval,
            epoch=n + 1,
            optimizer="one" if error else "two",
            status="FULFILLED",
            degradation_threshold=0.1,
            cost=1.0,
            at=interval.end,
            realised=0.05,
        )
    )


async def judged(bus) -> Route | None:
    route = await desired.get(bus, Route, "edge")
    return route if route.canary is None else None


@asynccontextmanager
async def auditors(url, count=2):
    async with running(auditor(), url), running(auditor(), url):
        yield


async def test_a_canary_that_is_as_good_and_cheaper_is_promoted_once(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with auditors(broker.url):
        for n in range(3):
            assert await judged(bus) is None
            await try_out(bus, since, n, make_asked(), cpu=2000.0)
        route = await eventually(lambda: judged(bus))
        [event] = await eventually(lambda: count_of(bus, Event, 1))
        await asyncio.sleep(0.3)
    assert (route.active, route.fallbacks, route.changed_by) == ("two", ("one", "peak"), "auditor")
    assert "cost 0.9383 of one's on 3 problems (limit 1.01): kept" in route.reason
    assert (event.kind, event.optimizer, event.reason) == ("canary", "two", route.reason)
    assert len(await stored(bus, Event)) == 1


async def test_a_dear_canary_is_rolled_back(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with running(auditor(), broker.url):
        for n in range(3):
            await try_out(bus, since, n, make_asked(), cpu=3000.0)
        route = await eventually(lambda: judged(bus))
    assert (route.active, route.fallbacks) == ("one", ("peak",))
    assert "rolled back after 3 intervals" in route.reason


async def test_a_canary_that_fails_is_rolled_back_early_by_an_auditor_that_was_restarted(
    bus, broker, slices, make_asked
):
    since = await set_canary(bus, intervals=24)
    async with running(auditor(), broker.url):
        for n in range(2):
            await try_out(bus, since, n, make_asked(), cpu=2000.0, error="no answer within 1 s")
        await asyncio.sleep(0.3)
        assert await judged(bus) is None
    async with running(auditor(), broker.url):
        await try_out(bus, since, 2, make_asked(), cpu=2000.0, error="no answer within 1 s")
        route = await eventually(lambda: judged(bus))
    assert "after 3 of 24 intervals, as it cannot keep failures" in route.reason
    assert "failures 3 of 3" in route.reason


async def test_a_canary_is_compared_with_the_active_optimizer_of_now(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with running(auditor(), broker.url):
        for n in range(2):
            await try_out(bus, since, n, make_asked(), cpu=2000.0)
        await asyncio.sleep(0.3)
        route = await desired.get(bus, Route, "edge")
        await bus.put_spec(streams.ROUTES, "edge", replace(route, active="three"))
        await asyncio.sleep(0.3)
        await try_out(bus, since, 2, make_asked(), cpu=2000.0, active="three")
        route = await eventually(lambda: judged(bus))
    assert "cost 0.9383 of three's on 1 problems" in route.reason


async def test_a_canary_is_judged_although_intervals_cannot_be(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with running(auditor(), broker.url):
        await play(bus, over(), "2", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))  # it has begun, and provides no streams any more
        await bus.js.delete_stream(streams.TELEMETRY)
        for n in range(3):
            await try_out(bus, since, n, make_asked(), cpu=3000.0)
        await eventually(lambda: judged(bus))


async def test_a_canary_without_a_beginning_begins_when_it_is_seen(bus, broker, slices):
    await bus.put_spec(streams.ROUTES, "edge", ROUTE)
    before = datetime.now(UTC)
    async with running(auditor(), broker.url):
        await eventually(lambda: _since(bus))
    route = await desired.get(bus, Route, "edge")
    assert before <= route.canary.since <= datetime.now(UTC)
    assert replace(route, canary=replace(route.canary, since=None)) == ROUTE


async def _since(bus) -> datetime | None:
    return (await desired.get(bus, Route, "edge")).canary.since
