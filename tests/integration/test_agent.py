"""The promises of the agent runtime, against a real server."""

import asyncio
import shutil
import urllib.error
import urllib.request
from datetime import UTC, datetime

import nats.js.errors
import pytest

from microopt import codec, streams
from microopt.agent import Agent
from microopt.broker import Broker, is_listening
from microopt.bus import Bus
from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt.messages import Interval, Problem, SliceProblem, Telemetry, Traffic
from microopt.settings import NatsSettings
from microopt.specs import Bounds, ResourceSpec, Route, Sla
from microopt.testing import eventually, running


def collecting(
    *, durable: bool = False, start: str = "all", name: str = "test-agent"
) -> tuple[Agent, list[Telemetry]]:
    agent, seen = Agent(name), []

    @agent.on(Telemetry, durable=durable, start=start)
    async def observe(sample, _):
        seen.append(sample)

    return agent, seen


async def dead_letters(bus):
    info = await bus.js.stream_info(streams.DEAD)
    return [
        await bus.js.get_msg(streams.DEAD, seq)
        for seq in range(info.state.first_seq, info.state.last_seq + 1)
        if info.state.messages
    ]


@pytest.mark.parametrize("durable", [False, True])
async def test_messages_arrive_in_order_and_once(bus, broker, telemetry, durable):
    for n in range(150):
        await bus.publish(telemetry(n))
    agent, seen = collecting(durable=durable)
    async with running(agent, broker.url):
        await bus.publish(telemetry(150))
        await eventually(lambda: len(seen) >= 151)
        await asyncio.sleep(0.2)
    assert seen == [telemetry(n) for n in range(151)]


@pytest.mark.parametrize("durable", [False, True])
async def test_delivery_goes_on_after_the_server_was_killed_and_restarted(bus, broker, telemetry, durable):
    agent, seen = collecting(durable=durable)
    async with running(agent, broker.url):
        await bus.publish(telemetry(0))
        await eventually(lambda: len(seen) == 1)
        await broker.kill()
        await asyncio.sleep(0.3)
        await broker.start()
        await bus.publish(telemetry(1))
        await eventually(lambda: telemetry(1) in seen, within_s=30)
    assert {s.time for s in seen} == {telemetry(0).time, telemetry(1).time}


async def test_following_resumes_where_it_was_when_the_server_lost_its_consumer_alone(bus, broker, telemetry):
    agent, seen = collecting()
    async with running(agent, broker.url):
        for n in range(10):
            await bus.publish(telemetry(n))
        await eventually(lambda: len(seen) == 10)
        await broker.kill()
        [consumers] = broker.store_dir.glob("jetstream/*/streams/TELEMETRY/obs")
        await asyncio.to_thread(shutil.rmtree, consumers)
        await broker.start()
        await bus.publish(telemetry(10))
        await eventually(lambda: telemetry(10) in seen, within_s=30)
    assert seen == [telemetry(n) for n in range(11)]


async def lose_the_store(broker):
    await broker.kill()
    await asyncio.to_thread(shutil.rmtree, broker.store_dir / "jetstream")


def following(*, durable: bool) -> tuple[Agent, list[Telemetry], dict[str, Route]]:
    agent, seen = collecting(durable=durable)
    routes = {}

    @agent.watch(streams.ROUTES, Route)
    async def changed(key, route, _):
        routes[key] = route

    return agent, seen, routes


@pytest.mark.parametrize("durable", [False, True])
async def test_a_store_that_was_lost_is_made_again_by_the_agents_that_run(bus, broker, telemetry, durable):
    agent, seen, routes = following(durable=durable)
    async with running(agent, broker.url):
        await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
        await bus.publish(telemetry(0))
        await eventually(lambda: routes and seen)
        await lose_the_store(broker)
        await broker.start()
        await eventually(lambda: _has_all_streams(bus), within_s=40)
        await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="microopt"))
        await bus.publish(telemetry(1))
        await eventually(lambda: routes["edge"].active == "microopt", within_s=30)
        await eventually(lambda: telemetry(1) in seen, within_s=30)


async def _has_all_streams(bus):
    try:
        await bus.js.object_store(streams.MODELS)  # the last that is made
    except nats.errors.Error:
        return False
    return True


@pytest.mark.parametrize("durable", [False, True])
async def test_a_store_that_was_made_anew_is_followed_from_its_beginning(bus, broker, telemetry, durable):
    agent, seen, routes = following(durable=durable)
    async with running(agent, broker.url):
        for n in range(3):
            await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
            await bus.publish(telemetry(n))
        await eventually(lambda: routes and len(seen) == 3)
        await lose_the_store(broker)
        await _make_anew(broker.store_dir, [telemetry(n) for n in range(10, 15)])
        await broker.start()
        await eventually(lambda: len(routes) == 6, within_s=40)
        await eventually(lambda: len(seen) == 8, within_s=30)
    assert {name: route.active for name, route in routes.items()} == {
        "edge": "microopt",
        **{f"pool-{n}": "peak" for n in range(5)},
    }
    assert seen[3:] == [telemetry(n) for n in range(10, 15)]


async def _make_anew(store_dir, told):
    """Fill a new store at an address that the agents do not know; they have read as far in the former one."""
    elsewhere = Broker(store_dir)
    await elsewhere.start()
    try:
        async with await Bus.connect(NatsSettings(url=elsewhere.url), "test", within_s=10) as bus:
            await streams.provision(bus.js)
            await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="microopt"))
            for n, message in enumerate(told):
                await bus.put_spec(streams.ROUTES, f"pool-{n}", Route(pool=f"pool-{n}", active="peak"))
                await bus.publish(message)
    finally:
        await elsewhere.stop()


async def test_following_begins_with_the_last_message_of_each_subject(bus, broker, telemetry):
    for n in range(3):
        await bus.publish(telemetry(n))
        await bus.publish(telemetry(n, slice="2"))
    agent, seen = collecting(start="last")
    async with running(agent, broker.url):
        await eventually(lambda: len(seen) == 2)
        await asyncio.sleep(0.2)
    assert seen == [telemetry(2), telemetry(2, slice="2")]


async def test_replicas_share_a_durable_and_lose_nothing(bus, broker, telemetry):
    first, seen_by_first = collecting(durable=True, name="shared")
    second, seen_by_second = collecting(durable=True, name="shared")
    async with running(first, broker.url) as replica, running(second, broker.url):
        for n in range(100):
            await bus.publish(telemetry(n))
            if n == 50:
                await replica.stop()
        await eventually(lambda: len(seen_by_first) + len(seen_by_second) >= 100)
    assert {s.time for s in seen_by_first + seen_by_second} == {telemetry(n).time for n in range(100)}


async def test_a_malformed_message_is_kept_with_the_field_and_the_next_is_handled(bus, broker, telemetry):
    agent, seen = collecting()
    good = telemetry(1)
    bad = [
        b"not json",
        b'{"type":"microopt.telemetry.v1","slice":"1-000001","time":"2026-01-01T00:00:00Z","slot_s":1,'
        b'"users":-3,"qos":1}',
    ]
    async with running(agent, broker.url):
        for data in bad:
            await bus.js.publish("microopt.telemetry.1-000001", data)
        await bus.publish(good)
        await eventually(lambda: seen == [good])
        kept = await eventually(lambda: dead_letters(bus))
    assert [m.data for m in kept] == bad
    assert {m.subject for m in kept} == {"microopt.dead.test-agent"}
    assert "invalid character" in kept[0].headers["Microopt-Error"]
    assert "$.users" in kept[1].headers["Microopt-Error"]
    assert kept[1].headers["Microopt-Subject"] == "microopt.telemetry.1-000001"


@pytest.mark.parametrize("durable", [False, True])
async def test_a_message_on_the_subject_of_another_is_kept_and_not_handled(bus, broker, telemetry, durable):
    agent, seen = collecting(durable=durable)
    foreign = codec.encode(telemetry(0, slice="2"))
    async with running(agent, broker.url):
        await bus.js.publish("microopt.telemetry.1-000001", foreign)
        await bus.publish(telemetry(1))
        [kept] = await eventually(lambda: dead_letters(bus))
        await eventually(lambda: seen)
    assert seen == [telemetry(1)]
    assert kept.data == foreign
    assert kept.headers["Microopt-Error"] == (
        "InvalidMessageError: microopt.telemetry.1-000001: holds a Telemetry that belongs on microopt.telemetry.2"
    )


async def test_a_message_whose_slice_no_subject_can_name_is_kept_and_not_handled(bus, broker, telemetry):
    agent, seen = collecting()
    # A pattern's `$` also matches before a last line break.
    odd = codec.encode(telemetry(0)).replace(b"1-000001", b"1-000001\\n")
    async with running(agent, broker.url):
        await bus.js.publish("microopt.telemetry.1-000001", odd)
        [kept] = await eventually(lambda: dead_letters(bus))
    assert seen == []
    assert kept.headers["Microopt-Error"].startswith("InvalidMessageError: microopt.telemetry.1-000001: ")


@pytest.mark.parametrize("durable", [False, True])
async def test_a_temporary_error_is_retried_and_the_last_failure_is_dead_lettered(bus, broker, telemetry, durable):
    agent, attempts = Agent("flaky"), []

    @agent.on(Telemetry, durable=durable, start="all", max_deliver=3)
    async def observe(sample, _):
        attempts.append(sample.time)
        hopeless, recovers = telemetry(0).time, telemetry(1).time
        if sample.time == hopeless or (sample.time == recovers and attempts.count(recovers) < 2):
            raise TemporaryError("the switch is away", delay_s=0.05)

    async with running(agent, broker.url):
        await bus.publish(telemetry(0))
        await bus.publish(telemetry(1))
        kept = await eventually(lambda: dead_letters(bus))
        await eventually(lambda: attempts.count(telemetry(1).time) == 2)
    assert attempts.count(telemetry(0).time) == 3
    assert [m.headers["Microopt-Error"] for m in kept] == ["TemporaryError: the switch is away"]


async def test_a_permanent_error_is_not_retried(bus, broker, telemetry):
    agent, attempts = Agent("strict"), []

    @agent.on(Telemetry)
    async def observe(sample, _):
        attempts.append(sample)
        raise PermanentError("unknown slice 1-000001")

    async with running(agent, broker.url):
        await bus.publish(telemetry(0))
        kept = await eventually(lambda: dead_letters(bus))
        await asyncio.sleep(0.2)
    assert len(attempts) == 1
    assert kept[0].headers["Microopt-Error"] == "PermanentError: unknown slice 1-000001"


async def test_a_handler_that_was_cut_off_gets_its_message_again(bus, broker, telemetry):
    begun = asyncio.Event()
    hanging, finished = Agent("heir"), []

    @hanging.on(Telemetry, durable=True)
    async def hang(_, __):
        begun.set()
        await asyncio.Event().wait()

    successor, seen = collecting(durable=True, name="heir")
    async with running(hanging, broker.url) as agent:
        await bus.publish(telemetry(0))
        await begun.wait()
        agent.task.cancel()  # as kill -9: the message is neither acknowledged nor returned
        await asyncio.wait({agent.task})
    await _expire_acknowledgement_wait(bus, "heir-Telemetry")
    async with running(successor, broker.url):
        await eventually(lambda: seen == [telemetry(0)])
    assert finished == []


async def _expire_acknowledgement_wait(bus, durable):
    """Shorten the server's wait for the acknowledgement: 30 s are not for tests."""
    info = await bus.js.consumer_info(streams.TELEMETRY, durable)
    info.config.ack_wait = 0.1
    await bus.js.add_consumer(streams.TELEMETRY, info.config)
    await asyncio.sleep(0.3)


async def test_a_slow_consumer_delays_itself_only_and_loses_nothing(bus, broker, telemetry):
    slow, seen_slowly = Agent("slow"), []
    fast, seen = collecting(name="fast")

    @slow.on(Telemetry, start="all")
    async def observe(sample, _):
        await asyncio.sleep(0.002)
        seen_slowly.append(sample)

    async with running(slow, broker.url), running(fast, broker.url):
        for n in range(1000):
            await bus.publish(telemetry(n))
        await eventually(lambda: len(seen) == 1000)
        await eventually(lambda: len(seen_slowly) == 1000, within_s=60)
    assert seen_slowly == seen


async def test_a_bucket_is_followed_across_a_server_restart_and_deletions_meanwhile(bus, broker):
    agent, routes = Agent("watcher"), {}

    @agent.watch(streams.ROUTES, Route)
    async def changed(key, route, _):
        routes[key] = route
        if route is None:
            del routes[key]

    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
    await bus.put_spec(streams.ROUTES, "core", Route(pool="core", active="peak"))
    async with running(agent, broker.url):
        await eventually(lambda: len(routes) == 2)
        await broker.kill()
        await broker.start()
        kv = await bus.js.key_value(streams.ROUTES)
        await eventually(lambda: _deleted(kv, "core"))
        await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="microopt"))
        await eventually(lambda: routes == {"edge": Route(pool="edge", active="microopt")}, within_s=30)


async def _deleted(kv, key):
    try:
        return await kv.delete(key)
    except (nats.js.errors.APIError, nats.errors.Error):
        return False


async def test_a_desired_state_that_cannot_be_read_is_kept_and_the_former_stays(bus, broker):
    agent, routes = Agent("watcher"), {}

    @agent.watch(streams.ROUTES, Route)
    async def changed(key, route, _):
        routes[key] = route

    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
    async with running(agent, broker.url):
        await eventually(lambda: routes)
        kv = await bus.js.key_value(streams.ROUTES)
        await kv.put("edge", b'{"type":"microopt.route.v1","pool":"edge","active":7}')
        kept = await eventually(lambda: dead_letters(bus))
    assert routes == {"edge": Route(pool="edge", active="peak")}
    assert kept[0].headers["Microopt-Subject"] == "routes/edge"
    assert "$.active" in kept[0].headers["Microopt-Error"]


async def test_an_endpoint_answers_and_reports_errors_without_its_inside(bus, broker):
    agent = Agent("server")

    @agent.endpoint("double", "test.double", Traffic)
    async def double(traffic, _):
        if traffic.users[0] == 13:
            raise RuntimeError("secret detail")
        return Traffic(tuple(2 * u for u in traffic.users), traffic.weights)

    async with running(agent, broker.url):
        ask = lambda users: bus.request("test.double", Traffic((users,), (1.0,)), Traffic, timeout_s=5)  # noqa: E731
        await eventually(lambda: _serves(bus, "test.double"))
        assert (await ask(2.0)).users == (4.0,)
        with pytest.raises(TemporaryError, match="500 internal error") as crash:
            await ask(13.0)
        assert "secret" not in str(crash.value)
        answer = await bus.nc.request("test.double", b'{"users":[1],"weights":[2]}', timeout=5)
        assert answer.headers["Nats-Service-Error-Code"] == "400"
        assert "$.weights" in answer.headers["Nats-Service-Error"]
        assert (await ask(3.0)).users == (6.0,)


async def test_the_problem_of_a_pool_of_a_thousand_slices_is_one_request(bus, broker):
    agent = Agent("large")

    @agent.endpoint("echo", "test.echo", Problem)
    async def echo(problem, _):
        return problem

    problem = _problem(slices=1000, atoms=100)
    assert len(codec.encode(problem)) > 1024 * 1024
    async with running(agent, broker.url):
        await eventually(lambda: _serves(bus, "test.echo"))
        assert await bus.request("test.echo", problem, Problem, timeout_s=20) == problem


def _problem(*, slices: int, atoms: int) -> Problem:
    traffic = Traffic(tuple(n / 7 for n in range(atoms)), (1 / atoms,) * atoms)
    bounds = {"gnb_cpu": Bounds(500.0, 4500.0)}
    return Problem(
        pool="edge",
        interval=Interval(datetime(2026, 1, 1, tzinfo=UTC), 5.0),
        resources={"gnb_cpu": ResourceSpec(unit="millicores", weight=1 / 4500, capacity=1e6)},
        slices=[
            SliceProblem(
                slice=f"1-{n:06x}",
                sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
                traffic=traffic,
                bounds=bounds,
                model="embb",
            )
            for n in range(slices)
        ],
    )


async def _serves(bus, subject):
    try:
        return await bus.nc.request(subject, b"{}", timeout=1)
    except nats.errors.Error:
        return None


async def test_a_task_that_dies_ends_the_agent_with_its_error(bus, broker):
    agent = Agent("mortal")

    @agent.task("doomed")
    async def doomed(_):
        raise ZeroDivisionError("as expected")

    with pytest.raises(ExceptionGroup) as died:
        async with running(agent, broker.url) as process:
            await process.task
    assert died.group_contains(ZeroDivisionError)


async def test_a_task_that_merely_returns_is_an_error_too(bus, broker):
    agent = Agent("mortal")

    @agent.task("brief")
    async def brief(_):
        return

    with pytest.raises(ExceptionGroup) as died:
        async with running(agent, broker.url) as process:
            await process.task
    assert died.group_contains(RuntimeError, match="task:brief ended")


async def test_health_readiness_and_metrics_are_served(bus, broker, telemetry, unused_port):
    agent, seen = collecting()
    async with running(agent, broker.url, http={"port": unused_port}):
        await eventually(lambda: is_listening("127.0.0.1", unused_port))
        assert await asyncio.to_thread(_get, unused_port, "/healthz") == (200, "ok\n")
        await eventually(lambda: asyncio.to_thread(lambda: _get(unused_port, "/readyz") == (200, "ok\n")))
        await bus.publish(telemetry(0))
        await eventually(lambda: seen)
        status, text = await asyncio.to_thread(_get, unused_port, "/metrics")
        assert status == 200
        assert 'microopt_agent_messages_total{message="Telemetry",outcome="ok"} 1.0' in text
        await broker.kill()
        other = Agent("late")
        with pytest.raises(ConfigError, match=f"port {unused_port} .* MICROOPT_HTTP_PORT"):
            async with running(other, broker.url, http={"port": unused_port}) as process:
                await process.task


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
