"""The controller that stands in for ONOS answers, refuses and forgets as its sources say that it does."""

import httpx
import pytest

from fakes.onos import PASSWORD, FakeOnos

DEVICE, EMPTY = "of:0000000000000050", "of:0000000000000051"
FLOWS, METERS = f"flows/{DEVICE}", f"meters/{DEVICE}"
BAND = {"type": "DROP", "rate": 10_000, "burstSize": 1_000}
METER = {"deviceId": DEVICE, "unit": "KB_PER_SEC", "burst": True, "bands": [BAND]}
SOURCE = {"type": "IPV4_SRC", "ip": "10.10.3.1/32"}
IP = {"type": "ETH_TYPE", "ethType": "0x800"}


def flow(*instructions, criteria=(IP, SOURCE), **changes):
    treatment = {"instructions": [*instructions, {"type": "OUTPUT", "port": "NORMAL"}]}
    fields = {"priority": 40_001, "timeout": 0, "isPermanent": True, "deviceId": DEVICE}
    return fields | {"selector": {"criteria": list(criteria)}, "treatment": treatment} | changes


def metered(number):
    return flow({"type": "METER", "meterId": number})


def without(body, name):
    return {key: value for key, value in body.items() if key != name}


@pytest.fixture
async def fake():
    async with FakeOnos(DEVICE, EMPTY) as server:
        server.polls = False
        yield server


@pytest.fixture
async def ask(fake):
    """Return status, headers and body of an answer; `user` asks."""
    async with httpx.AsyncClient(base_url=fake.url, trust_env=False) as client:

        async def run(method, path, body=None, *, user="onos", password=PASSWORD):
            answer = await client.request(method, path, json=body, auth=(user, password))
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status_code, answer.headers, answer.json() if is_json else answer.text

        yield run


@pytest.fixture
async def make(ask):
    """Make a flow or meter, and return its number as Location has it."""

    async def run(path, body):
        status, headers, content = await ask("POST", path, body)
        assert (status, content) == (201, "")
        where, _, number = headers["Location"].rpartition("/")
        assert where.endswith(f"/onos/v1/{path.partition('?')[0]}")
        return int(number)

    return run


async def one(ask, path, kind):
    status, _, body = await ask("GET", path)
    assert status == 200
    (found,) = body[kind]
    return found


async def test_ids_of_meters_are_given_out_in_decimal_and_shown_in_hexadecimal(fake, ask, make):
    numbers = [await make(METERS, METER) for _ in range(17)]
    assert numbers == list(range(1, 18))
    fake.poll()
    shown = [meter["id"] for meter in (await ask("GET", METERS))[2]["meters"]]
    assert shown == [*"123456789abcdef", "10", "11"]
    assert (await one(ask, f"{METERS}/10", "meters"))["id"] == "a"
    for method in ("GET", "DELETE"):
        assert (await ask(method, f"{METERS}/a"))[0] == 400
    await make(FLOWS, metered(16))
    instructions = (await one(ask, FLOWS, "flows"))["treatment"]["instructions"]
    assert [it["meterId"] for it in instructions if it["type"] == "METER"] == ["10"]
    assert (await ask("DELETE", f"{METERS}/10"))[0] == 204  # the tenth, not the one that is shown as 10
    fake.poll()
    assert 16 in fake.meters(DEVICE)
    assert 10 not in fake.meters(DEVICE)


async def test_a_flow_with_the_same_selector_and_priority_is_replaced_under_the_same_id(fake, ask, make):
    for number in (1, 2):
        assert await make(METERS, METER) == number
    first = await make(f"{FLOWS}?appId=org.microopt", metered(1))
    fake.poll()
    assert await make(f"{FLOWS}?appId=org.microopt", metered(2)) == first
    assert (await one(ask, f"{FLOWS}/{first}", "flows"))["state"] == "PENDING_ADD"
    assert [what["METER"] for what in fake.devices[DEVICE].table.values()] == [2]
    assert await make(f"{FLOWS}?appId=org.example", metered(2)) != first
    assert await make(f"{FLOWS}?appId=org.microopt", {**metered(2), "priority": 40_002}) != first


async def test_an_answer_comes_before_the_switch_has_anything_and_states_at_the_polls(fake, ask, make):
    meter = await make(METERS, METER)
    assert (await one(ask, f"{METERS}/{meter}", "meters"))["state"] == "PENDING_ADD"
    number = await make(FLOWS, metered(meter))
    assert (await one(ask, f"{FLOWS}/{number}", "flows"))["state"] == "PENDING_ADD"
    fake.devices[DEVICE].poll_flows()
    assert (await one(ask, f"{FLOWS}/{number}", "flows"))["state"] == "ADDED"
    assert (await one(ask, f"{METERS}/{meter}", "meters"))["state"] == "PENDING_ADD"
    fake.devices[DEVICE].poll_meters()
    there = await one(ask, f"{METERS}/{meter}", "meters")
    assert (there["state"], there["referenceCount"], there["appId"]) == ("ADDED", 1, "org.onosproject.rest")


async def test_a_meter_that_is_deleted_takes_the_flows_that_use_it_from_the_switch(fake, ask, make):
    meter = await make(METERS, METER)
    number = await make(FLOWS, metered(meter))
    fake.poll()
    assert (await ask("DELETE", f"{METERS}/{meter}"))[0] == 204
    assert fake.devices[DEVICE].table == {}
    assert (await one(ask, f"{METERS}/{meter}", "meters"))["state"] == "PENDING_REMOVE"
    fake.poll()
    assert (await one(ask, f"{FLOWS}/{number}", "flows"))["state"] == "PENDING_ADD"
    assert (await ask("GET", f"{METERS}/{meter}"))[0] == 404
    assert await make(METERS, METER) == meter  # ids come again
    assert (await ask("DELETE", f"{METERS}/99"))[0] == 204


async def test_where_nothing_is_the_answers_differ(ask, make):
    assert [(await ask("GET", path))[0] for path in (f"flows/{EMPTY}", f"{FLOWS}/1", f"{METERS}/1")] == [
        404,
        200,
        404,
    ]
    assert (await ask("GET", f"{FLOWS}/1"))[2] == {"flows": []}
    assert (await ask("GET", METERS))[::2] == (200, {"meters": []})
    assert (await ask("GET", f"flows/{EMPTY}"))[2] == {"code": 404, "message": "Device is not found"}
    status, _, body = await ask("GET", "flows/application/org.microopt")
    assert (status, body["message"]) == (404, "Application Id is not found")
    await make(f"{FLOWS}?appId=org.microopt", flow({"type": "QUEUE", "queueId": 1}))
    assert (await one(ask, "flows/application/org.microopt", "flows"))["appId"] == "org.microopt"


async def test_a_device_that_has_stopped_is_answered_for_all_the_same(fake, ask, make):
    fake.devices[DEVICE].available = False
    assert (await ask("GET", f"devices/{DEVICE}"))[2]["available"] is False
    meter = await make(METERS, METER)
    number = await make(FLOWS, metered(meter))
    fake.poll()
    assert (await one(ask, f"{FLOWS}/{number}", "flows"))["state"] == "PENDING_ADD"
    assert (await one(ask, f"{METERS}/{meter}", "meters"))["state"] == "PENDING_ADD"
    assert (await ask("GET", "devices/of:00000000000000ff"))[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (METERS, without(METER, "bands"), 500, "java.lang.NullPointerException"),
        (METERS, {**METER, "bands": [without(BAND, "burstSize")]}, 400, "burstSize member is required in Band"),
        (METERS, {**METER, "bands": [without(BAND, "rate")]}, 400, "rate member is required in Band"),
        (METERS, without(METER, "unit"), 400, "unit member is required in MeterRequest"),
        (METERS, {**METER, "unit": "MBIT"}, 400, "The requested unit MBIT is not defined for meter."),
        ("meters/of:ff", {**METER, "deviceId": "of:ff"}, 400, "Invalid deviceId in meter creation request"),
        (METERS, {**METER, "deviceId": EMPTY}, 400, "Invalid deviceId in meter creation request"),
        (FLOWS, without(flow(), "priority"), 400, "priority member is required in FlowRule"),
        (FLOWS, without(flow(), "isPermanent"), 400, "isPermanent member is required in FlowRule"),
        (
            FLOWS,
            without(flow(isPermanent=False), "timeout"),
            400,
            "timeout member is required in FlowRule if the flow is temporary",
        ),
        (FLOWS, flow(deviceId=EMPTY), 400, "Invalid deviceId in flow creation request"),
        (FLOWS, flow({"type": "QUEUE"}), 400, "queueId member is required in Instruction"),
    ],
)
async def test_what_onos_refuses_is_refused_and_nothing_made(fake, ask, path, body, status, message):
    assert (await ask("POST", path, body))[::2] == (status, {"code": status, "message": message})
    assert (fake.devices[DEVICE].flows, fake.devices[DEVICE].meters) == ({}, {})


async def test_a_meter_is_never_changed(ask, make):
    meter = await make(METERS, METER)
    for method in ("PUT", "PATCH"):
        assert (await ask(method, f"{METERS}/{meter}", METER))[0] >= 400


@pytest.mark.parametrize("criteria", [(SOURCE,), ({"type": "IP_PROTO", "protocol": 17},)])
async def test_a_match_without_its_prerequisite_never_gets_onto_the_switch(fake, ask, make, criteria):
    number = await make(FLOWS, flow(criteria=criteria))
    for _ in range(2):
        fake.poll()
        assert (await one(ask, f"{FLOWS}/{number}", "flows"))["state"] == "PENDING_ADD"
    assert fake.devices[DEVICE].table == {}


async def test_what_somebody_else_put_onto_the_switch_goes_at_the_next_poll(fake):
    fake.devices[DEVICE].table["theirs"] = {"QUEUE": 1}
    fake.poll()
    assert fake.devices[DEVICE].table == {}


async def test_an_address_is_cut_to_its_network(fake, ask, make):
    wide = {"type": "IPV4_SRC", "ip": "10.10.3.231/24"}
    await make(FLOWS, flow(criteria=(IP, wide)))
    criteria = (await one(ask, FLOWS, "flows"))["selector"]["criteria"]
    assert {"type": "IPV4_SRC", "ip": "10.10.3.0/24"} in criteria


async def test_a_stranger_gets_nothing_and_a_guest_may_only_look(fake, ask):
    status, headers, body = await ask("GET", METERS, password="wrong")  # noqa: S106
    assert (status, headers["Content-Type"].split(";")[0]) == (401, "text/html")
    assert "Unauthorized" in body
    guest = {"user": "guest", "password": "guest"}
    assert (await ask("GET", METERS, **guest))[0] == 200
    assert (await ask("POST", METERS, METER, **guest))[::2] == (403, {"code": 403, "message": "Forbidden"})
    assert fake.devices[DEVICE].meters == {}
