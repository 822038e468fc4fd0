"""The auditor on a real bus: shadows that behave and misbehave."""

import asyncio
from datetime import UTC, datetime, timedelta

from microopt import subjects
from microopt.agent import Agent
from microopt.messages import (
    Answer,
    Check,
    Checked,
    Problem,
    SliceCheck,
)
from microopt.testing import eventually, running
from real.auditor import auditor, count_of, solution, stored


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
