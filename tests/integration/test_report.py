"""What operators read of a pool, from a real broker with a real worker behind it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from msgspec.structs import replace

from microopt import streams, subjects
from microopt.agent import Agent
from microopt.cli import main
from microopt.errors import TemporaryError
from microopt.messages import (
    Actuation,
    Allocation,
    Answer,
    Asked,
    Assurance,
    Event,
    Forecast,
    Interval,
    Problem,
    SliceCheck,
    SliceProblem,
    Solution,
    Traffic,
)
from microopt.settings import Settings
from microopt.specs import Margin, Route, Sla
from microopt.testing import running
from microopt_optimizer.report import cli as report
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.training import FAST, train
from microopt_optimizer.worker.agent import build as build_worker

NAMES = ("1", "2")
NOW = datetime.now(UTC).replace(microsecond=0)
INTERVAL = Interval(NOW - timedelta(minutes=30), 3600.0)
EPOCH = 17
COMMANDS = [report.explain, report.ledger, report.prices, report.replay, report.scorecard, report.whatif]


@pytest.fixture(scope="module")
def model() -> bytes:
    """Train on users who share the lesser of bandwidth and a hundredth of the CPU."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    users = rng.integers(1, 6, 600).astype(float)
    resources = np.column_stack([rng.uniform(5.0, 50.0, 600), rng.uniform(500.0, 4500.0, 600)])
    qos = np.minimum(resources[:, 0], resources[:, 1] / 100.0) / users + rng.normal(0.0, 0.2, 600)
    names, units = ("transport_bandwidth", "gnb_cpu"), ("Mbit/s", "millicores")
    data = dataset_from_arrays(users, resources, qos.clip(0.0), names=names, units=units)
    return model_file.to_bytes(train(data, replace(FAST, epochs=60, batch_size=128), name="test"))


async def run(url, *words):
    group = type(main)("microopt", commands=COMMANDS)
    environ = {"NATS_URL": url, "MICROOPT_CONFIG": None, "MICROOPT_NATS_URL": None}
    return await asyncio.to_thread(CliRunner().invoke, group, list(map(str, words)), env=environ)


@pytest.fixture
def microopt(broker):
    """Run `microopt` against the test's broker."""
    return partial(run, broker.url)


@pytest.fixture
async def specs(bus, make_pool, make_slice, model):
    """Two slices that together want more bandwidth than there is."""
    await bus.put_spec(streams.POOLS, "edge", make_pool(bandwidth=30.0))
    sla = Sla(qos_threshold=3.0, degradation_threshold=0.2)
    found = [make_slice(name, sla=sla, model="good", interval_s=3600.0, slot_s=60.0) for name in NAMES]
    for spec in found:
        await bus.put_spec(streams.SLICES, spec.slice, spec)
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="microopt", shadows=("peak",)))
    await (await bus.js.object_store(streams.MODELS)).put("good", model)
    return found


@pytest.fixture
async def worker(broker, specs):
    agent = build_worker(Settings({"optimizer": {"serve": ["microopt", "peak"]}}, "test"))
    async with running(agent, broker.url):
        yield


def problem_of(pool, specs) -> Problem:
    slices = [
        SliceProblem(
            slice=spec.slice,
            sla=replace(spec.sla.tightened(spec.qos_margin), degradation_threshold=0.15),
            traffic=Traffic((2.0 + 2 * n, 3.0 + 2 * n), (0.5, 0.5)),
            bounds=spec.bounds,
            model=spec.model,
        )
        for n, spec in enumerate(specs)
    ]
    return Problem(pool="edge", interval=INTERVAL, resources=pool.resources, slices=slices, deadline_s=8.0)


async def solved(bus, problem, optimizer) -> Solution:
    for _ in range(100):  # until the worker serves
        try:
            return await bus.request(subjects.optimize(optimizer), problem, Solution, timeout_s=20.0)
        except Exception:
            await asyncio.sleep(0.1)
    raise AssertionError(f"{optimizer} never answered")


@pytest.fixture
async def asked(bus, worker, specs, make_pool):
    """Store one round as router and auditor do, and what came of it; return what was asked."""
    problem = problem_of(make_pool(bandwidth=30.0), specs)
    found = Asked(problem=problem, active="microopt", shadows=("peak",), at=INTERVAL.start, epoch=EPOCH)
    await bus.publish(found)
    for optimizer, role in (("microopt", "active"), ("peak", "shadow")):
        await bus.publish(await answer(bus, problem, optimizer, role))
    return found


async def answer(bus, problem, optimizer, role) -> Answer:
    solution = await solved(bus, problem, optimizer)
    checks = [SliceCheck(slice=s.slice, expected_degradation=s.expected_degradation) for s in solution.slices]
    return Answer(
        pool="edge", interval=INTERVAL, problem=problem.id, optimizer=optimizer, role=role, at=INTERVAL.start,
        solution=solution, latency_s=0.05, checks=checks,
    )  # fmt: skip


@pytest.fixture
async def in_force(bus, asked, specs):
    """Store what became of the round: forecasts, allocations, reports, assurances, an event, a margin."""
    solution = (await answer(bus, asked.problem, "microopt", "active")).solution
    for spec, one, part in zip(specs, solution.slices, asked.problem.slices, strict=True):
        made_at = INTERVAL.start - timedelta(minutes=1)
        await bus.publish(
            Forecast(slice=spec.slice, interval=INTERVAL, traffic=part.traffic, model="ces", made_at=made_at)
        )
        await bus.publish(
            Allocation(
                slice=spec.slice, pool="edge", interval=INTERVAL, epoch=EPOCH, values=one.allocation,
                answered=one.allocation, valid_until=INTERVAL.end, optimizer="microopt", status=one.status,
                problem=asked.problem.id, asked_threshold=0.15, forecast_made_at=made_at,
            )
        )  # fmt: skip
        await bus.put_spec(
            streams.MARGINS, spec.slice, Margin(slice=spec.slice, degradation_threshold=0.15, judged=9)
        )
        for hours, status, realised in ((3, "FULFILLED", 0.1), (2, "NOT_FULFILLED", 0.3), (1, "UNKNOWN", None)):
            start = INTERVAL.start - timedelta(hours=hours)
            await bus.publish(
                Assurance(
                    slice=spec.slice, pool="edge", interval=Interval(start, 3600.0), epoch=EPOCH - hours,
                    optimizer="microopt", status=status, degradation_threshold=0.2, cost=0.6, peak_cost=1.0,
                    at=start + timedelta(hours=1), realised=realised, users_slots=100.0,
                )
            )  # fmt: skip
    await bus.publish(
        Actuation(
            slice="1", resource="gnb_cpu", epoch=EPOCH, state="effective", requested=1000.0, observed=900.0,
            driver="cgroup", at=INTERVAL.start,
        )
    )  # fmt: skip
    await bus.publish(Event(pool="edge", kind="leader", at=INTERVAL.start, reason="router-2 took the pool over"))
    return solution


async def test_the_scorecard_pairs_answers_and_recomputes_costs(microopt, in_force, asked):
    done = await microopt("scorecard", "edge", "--json")
    assert done.exit_code == 0, done.output
    card = json.loads(done.stdout)
    one, peak = card["scores"]
    assert (card["paired_problems"], card["paired_slices"], card["compared"]) == (1, 2, ["microopt", "peak"])
    weights = {"transport_bandwidth": 1 / 50, "gnb_cpu": 1 / 4500}
    costs = [weights[name] * value for s in in_force.slices for name, value in s.allocation.items()]
    assert one["cost"] == pytest.approx(sum(costs))
    assert peak["cost_ratio"] == pytest.approx(peak["cost"] / one["cost"])
    assert one["above"] == 0.0
    assert one["reality"] == {"realised": pytest.approx(0.2), "fulfilled": 0.5, "judged": 4, "unknown": 2}
    assert peak["reality"] is None
    text = (await microopt("scorecard", "edge")).output
    assert "all of microopt, peak answered 1 of 1 problem (2 slice answers each)" in text


async def test_answers_whose_problem_is_not_kept_are_counted_and_left_out(bus, microopt, in_force, asked):
    stranger = await answer(bus, asked.problem, "peak", "shadow")
    await bus.publish(replace(stranger, problem="0123456789abcdef"))
    await bus.js.publish("microopt.solution.peak.edge", b"{")
    card = json.loads((await microopt("scorecard", "edge", "--json")).stdout)
    assert card["notes"] == [
        "left out, as they cannot be read: 1 stored message",
        "left out, as their problems are not kept since then: 1 answer",
    ]
    assert [one["answers"] for one in card["scores"]] == [1, 1]


async def test_an_optimizer_that_never_answered_is_named(microopt, asked):
    done = await microopt("scorecard", "edge", "--optimizer", "atlas")
    assert done.exit_code == 1
    assert "--optimizer atlas: no answer of it" in done.output
    assert "answers: microopt, peak" in done.output


async def test_the_ledger_sums_assurances_beside_the_route_that_was_before(bus, microopt, in_force, asked):
    judged = Assurance(
        slice="1", pool="edge", interval=INTERVAL, epoch=EPOCH, optimizer="microopt", status="FULFILLED",
        degradation_threshold=0.2, cost=0.5, at=INTERVAL.end,
    )  # fmt: skip
    await bus.publish(judged)
    done = await microopt("ledger", "edge", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    total = found["total"]
    assert found["former"] == "peak"
    assert (total["slice_intervals"], total["violations"], total["unknown"]) == (7, 2, 2)
    assert total["cost_h"] == pytest.approx(6 * 0.6 + 0.5)
    assert total["saved_against_peak"] == pytest.approx(0.4)
    assert total["against_former"]["slice_intervals"] == 1
    assert total["saved_against_former"] == pytest.approx(1 - 0.5 / total["against_former"]["others_cost_h"])
    assert total["worst"]["realised"] == 0.3
    assert "former: peak, known of 1 of 7 slice-intervals" in (await microopt("ledger", "edge")).output


async def test_a_replay_by_the_same_worker_is_bit_exact(microopt, asked):
    done = await microopt("replay", "edge", "--optimizer", "microopt")
    assert done.exit_code == 0, done.output
    assert f"problem {asked.problem.id}: bit-exact" in done.output
    by_id = await microopt("replay", "edge", "--optimizer", "peak", "--problem", asked.problem.id, "--json")
    assert [one["bit_exact"] for one in json.loads(by_id.stdout)["replayed"]] == [True]


async def test_a_replay_that_differs_in_the_same_version_ends_with_1(bus, microopt, asked):
    other = await answer(bus, asked.problem, "microopt", "active")
    first = other.solution.slices[0]
    moved = {**first.allocation, "gnb_cpu": np.nextafter(first.allocation["gnb_cpu"], 1e9).item()}
    slices = [replace(first, allocation=moved), other.solution.slices[1]]
    await bus.publish(replace(other, solution=replace(other.solution, slices=slices), latency_s=0.06))
    done = await microopt("replay", "edge", "--optimizer", "microopt")
    assert done.exit_code == 1
    assert "slice 1: cost" in done.output
    assert "gnb_cpu" in done.output
    assert "transport_bandwidth" not in done.output
    assert "with a deadline of 80 s in place of 8 s it differs, too" in done.output
    newer = replace(other.solution, slices=slices, version="0.0.0")
    await bus.publish(replace(other, solution=newer, at=other.at + timedelta(seconds=1)))
    again = await microopt("replay", "edge", "--optimizer", "microopt")
    assert again.exit_code == 0
    assert "version 0.0.0 then" in again.output


async def test_an_answer_that_its_deadline_cut_short_is_told_from_one_that_changed(bus, broker, microopt, asked):
    """An optimizer whose answer depends on the time that it is given."""
    hasty = Agent("optimizer-hasty")
    steady = await answer(bus, asked.problem, "microopt", "shadow")

    @hasty.endpoint("hasty", subjects.optimize("hasty"), Problem)
    async def solve(problem, _):
        slices = steady.solution.slices if problem.deadline_s > 8.0 else steady.solution.slices[:1]
        return replace(steady.solution, optimizer="hasty", slices=slices)

    await bus.publish(replace(steady, optimizer="hasty", solution=replace(steady.solution, optimizer="hasty")))
    async with running(hasty, broker.url):
        await solved(bus, asked.problem, "hasty")
        done = await microopt("replay", "edge", "--optimizer", "hasty")
    assert done.exit_code == 0, done.output
    assert "with a deadline of 80 s in place of 8 s it is bit-exact" in done.output


async def test_without_an_answer_at_the_larger_deadline_the_difference_is_shown(bus, broker, microopt, asked):
    """Another version may differ, also where it has no answer when it is asked once more."""
    moody = Agent("optimizer-moody")
    steady = await answer(bus, asked.problem, "microopt", "shadow")

    @moody.endpoint("moody", subjects.optimize("moody"), Problem)
    async def solve(problem, _):
        if problem.deadline_s > 8.0:
            raise TemporaryError("too much to do")
        return replace(steady.solution, optimizer="moody", slices=steady.solution.slices[:1])

    former = replace(steady.solution, optimizer="moody", version="0.0.0")
    await bus.publish(replace(steady, optimizer="moody", solution=former))
    async with running(moody, broker.url):
        await solved(bus, asked.problem, "moody")
        done = await microopt("replay", "edge", "--optimizer", "moody")
    assert done.exit_code == 0, done.output
    assert "differs from moody's recorded answer" in done.output
    assert "with a deadline of 80 s it gave no answer" in done.output
    assert "0 bit-exact, 1 otherwise, 0 with nothing to compare" in done.output


async def test_a_replay_by_nobody_says_who_is_missing(microopt, asked):
    done = await microopt("replay", "edge", "--optimizer", "atlas")
    assert done.exit_code == 1
    assert "nobody serves microopt.optimize.atlas" in done.output


async def test_an_explanation_has_every_part(microopt, in_force):
    done = await microopt("explain", "1")
    assert done.exit_code == 0, done.output
    for said in (
        f"epoch {EPOCH} by microopt: optimal",
        "2.5 users a slot, 95 % of slots at most 3; forecast at",
        "SLA: at most 20.0 % of user-time below 3 Mbit/s",
        "with margins: at most 15.0 % below 3.3 Mbit/s, by 9 judged intervals",
        "effective by cgroup, 900 in use",
        "the threshold binds: the slice model expects",
        "transport_bandwidth is scarce, worth",
        "slice 2 is why: it holds most",
        "realised 30.0 %: NOT_FULFILLED, by microopt",
        "realised unknown: UNKNOWN, by microopt",
        "leader: router-2 took the pool over",
        "Mbit/s more transport_bandwidth in the pool saves",
    ):
        assert said in done.output
    found = json.loads((await microopt("explain", "1", "--epoch", EPOCH, "--json")).stdout)
    assert found["cost_a_point"] > 0.0
    assert found["unknown"] == []


async def test_an_epoch_that_is_not_kept_is_said(microopt, in_force):
    done = await microopt("explain", "1", "--epoch", 3)
    assert done.exit_code == 1
    assert "no allocation of epoch 3; epochs 17 to 17 are kept" in done.output


async def test_a_looser_sla_costs_less_and_nothing_is_applied(bus, microopt, in_force):
    before = (await bus.js.stream_info(streams.ALLOCATIONS)).state.last_seq
    done = await microopt("whatif", "1", "--qos-threshold", 2, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["then"]["qos_threshold"] == pytest.approx(2.2)
    assert found["then"]["cost"] < found["before"]["cost"]
    assert found["then"]["degradation_threshold"] == pytest.approx(0.15)
    assert found["tighter"]["pool_cost"] > found["then"]["pool_cost"]
    price, measured = found["then"]["degradation_price"] / 100.0, found["cost_a_point"]
    assert measured == pytest.approx(price, rel=0.5)
    assert found["before_from"].startswith("its answer of")
    assert (await bus.js.stream_info(streams.ALLOCATIONS)).state.last_seq == before
    text = (await microopt("whatif", "1", "--qos-threshold", 2)).output
    assert "NOTHING IS APPLIED" in text
    assert "! asked for is the SLA with its margins: QoS 10 %, degradation threshold × 0.75" in text


async def test_without_a_problem_it_is_built_from_the_spec(bus, microopt, worker, specs, make_pool):
    await solved(bus, problem_of(make_pool(), specs), "microopt")
    found = json.loads((await microopt("whatif", "2", "--users", 4, "--json")).stdout)
    assert "alone in its pool" in found["source"]
    assert found["then"]["users_mean"] == 4.0
    assert found["then"]["qos_threshold"] == pytest.approx(3.3)
    refused = await microopt("whatif", "2", "--qos-threshold", 2)
    assert refused.exit_code == 1
    assert "give --users" in refused.output


async def test_prices_show_what_is_scarce_and_who_holds_it(microopt, in_force):
    done = await microopt("prices", "edge", "--json")
    assert done.exit_code == 0, done.output
    cpu, bandwidth = json.loads(done.stdout)["capacities"]
    held = {s.slice: s.allocation["transport_bandwidth"] for s in in_force.slices}
    assert bandwidth["used"] == pytest.approx(sum(held.values()))
    assert bandwidth["price"] == in_force.capacity_prices["transport_bandwidth"] > 0.0
    assert bandwidth["most"][0] == {"slice": "2", "value": held["2"]}
    assert cpu["price"] == 0.0
    assert (
        "transport_bandwidth is scarce: one Mbit/s more would save the pool"
        in (await microopt("prices", "edge")).output
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scorecard", "core"), "unknown pool 'core'; pools: edge"),
        (("prices", "core"), "unknown pool 'core'; pools: edge"),
        (("explain", "9"), "unknown slice '9'; slices: 1, 2"),
        (("explain", "1"), "slice 1: no allocation yet"),
        (("whatif", "1"), "what if nothing changes?"),
        (("replay", "edge", "--optimizer", "peak"), "pool edge: no problem is kept since then"),
        (("scorecard", "edge", "--since", "soon"), "--since 'soon'"),
    ],
)
async def test_what_cannot_be_shown_is_said_with_the_remedy(microopt, specs, words, said):
    done = await microopt(*words)
    assert done.exit_code == 1
    assert said in done.output


async def test_a_pool_without_anything_says_so(microopt, specs):
    assert "no answers to compare" in (await microopt("scorecard", "edge")).output
    assert "no assurances yet: is the auditor running?" in (await microopt("ledger", "edge")).output
    assert "no answer of microopt is kept: prices are unknown" in (await microopt("prices", "edge")).output


async def test_what_others_wrote_stays_on_its_line_and_harms_no_terminal(bus, microopt, in_force, asked):
    event = Event(pool="edge", kind="held", at=INTERVAL.start, slice="1", reason="Traceback:\n\x1b[2J  line 1")
    await bus.publish(event)
    done = await microopt("explain", "1")
    assert "held: Traceback:\\n\\x1b[2J  line 1" in done.output
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("whatif", "1", "--users", "nan"), "Invalid value for '--users': nan is no number"),
        (("whatif", "1", "--users", "-1"), "Invalid value for '--users'"),
        (("whatif", "1", "--qos-threshold", "1e300"), "Invalid value for '--qos-threshold'"),
        (("whatif", "1", "--degradation-threshold", "0"), "Invalid value for '--degradation-threshold'"),
        (("whatif", "1", "--degradation-threshold", "1"), "Invalid value for '--degradation-threshold'"),
        (("whatif", "1", "--optimizer", "*"), "'*' is no optimizer's name"),
        (("replay", "edge", "--optimizer", "a.b"), "'a.b' is no optimizer's name"),
        (("ledger", "edge", "--against", "Peak"), "'Peak' is no optimizer's name"),
        (("ledger", "edge", "--days", "0"), "Invalid value for '--days'"),
    ],
)
async def test_an_option_that_makes_no_sense_is_named(microopt, specs, words, said):
    done = await microopt(*words)
    assert done.exit_code == 2
    assert said in done.output
