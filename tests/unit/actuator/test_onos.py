import msgspec
import pytest

from microopt.errors import ConfigError, PermanentError
from microopt.settings import Settings
from microopt_actuator.drivers.onos_change import meter_change, queue_for, rate_of
from microopt_actuator.drivers.onos_model import FlowEntry, Hold, MeterEntry, MeterRate, number_of
from microopt_actuator.drivers.onos_settings import OnosFlow, OnosQueue, OnosSelector
from microopt_actuator.settings import ActuatorSettings

DEVICE = "of:0000000000000050"
APP = "org.microopt"
FLOW = OnosFlow(device=DEVICE, selector=OnosSelector(ipv4_src="10.10.3.1/32"))
QUEUED = OnosFlow(
    device=DEVICE, selector=OnosSelector(ipv4_src="10.10.3.1/32"), queues=[OnosQueue(id=123, mbps=10.0)]
)
# As ONOS writes it, beside much that is of no interest here.
CRITERIA = [{"type": "ETH_TYPE", "ethType": "0x800"}, {"type": "IPV4_SRC", "ip": "10.10.3.1/32"}]
METERED = [{"type": "OUTPUT", "port": "NORMAL"}, {"type": "METER", "meterId": "a"}]


def entry(instructions=METERED, **changes):
    fields = {
        "id": "48695172830457",
        "appId": APP,
        "state": "ADDED",
        "deviceId": DEVICE,
        "priority": 40001,
        "tableId": 0,
        "treatment": {"instructions": instructions, "deferred": []},
        "selector": {"criteria": CRITERIA},
    }
    return msgspec.convert({**fields, **changes}, FlowEntry)


def meter(number, kbps=10_000, burst_kbit=None, **changes):
    burst_kbit = kbps // 4 if burst_kbit is None else burst_kbit
    fields = {
        "id": f"{number:x}",
        "appId": "org.onosproject.rest",
        "state": "ADDED",
        "unit": "KB_PER_SEC",
        "burst": True,
        "referenceCount": 0,
        "bands": [{"type": "DROP", "rate": kbps, "burstSize": burst_kbit}],
    }
    return msgspec.convert({**fields, **changes}, MeterEntry)


def change(kbps, flows, meters, **rest):
    rate = MeterRate(kbps, kbps // 4)
    found = meter_change(FLOW, rate, APP, flows, meters, burst_ms=250, **rest)
    return found.use, found.points, found.retire


# --- what ONOS says ---------------------------------------------------------------------------------------------


def test_a_meters_id_is_read_as_hexadecimal_and_posted_as_decimal():
    assert meter(16).number == 16
    assert entry().posted(FLOW) == Hold("METER", 10)
    assert Hold("METER", 10).body(FLOW)["treatment"]["instructions"][0] == {"type": "METER", "meterId": 10}
    assert number_of("http://elsewhere:8181/onos/v1/meters/of:50/16", "ONOS") == 16


@pytest.mark.parametrize("location", [None, "", "http://h/onos/v1/meters/of:50/", "http://h/meters/a"])
def test_a_location_without_an_id_is_refused(location):
    with pytest.raises(PermanentError, match="no id in Location"):
        number_of(location, "ONOS")


@pytest.mark.parametrize(
    ("state", "posted", "in_force"),
    [
        ("ADDED", True, True),
        ("PENDING_ADD", True, False),
        ("PENDING_REMOVE", False, False),
        ("FAILED", False, False),
    ],
)
def test_only_what_is_added_is_in_force(state, posted, in_force):
    it = entry(state=state)
    assert (it.posted(FLOW) is not None, it.in_force(FLOW) is not None) == (posted, in_force)


@pytest.mark.parametrize(
    "instructions",
    [
        [],
        [{"type": "OUTPUT", "port": "NORMAL"}],
        [{"type": "METER", "meterId": "a"}],
        [*METERED, {"type": "QUEUE", "queueId": 1}],
        [*METERED, {"type": "METER", "meterId": "b"}],
        [{"type": "OUTPUT", "port": "2"}, METERED[1]],
        [METERED[0], {"type": "METER", "meterId": "none"}],
        [METERED[0], {"type": "QUEUE", "queueId": 123}],
    ],
)
def test_a_flow_that_does_anything_else_does_not_hold_the_rate(instructions):
    assert entry(instructions).posted(FLOW) is None


def test_a_port_may_have_a_name_and_a_queue_be_the_one_that_holds():
    to_port = msgspec.structs.replace(FLOW, output=2)
    assert entry([{"type": "OUTPUT", "port": "[eth1](2)"}, METERED[1]]).posted(to_port) == Hold("METER", 10)
    assert entry([{"type": "QUEUE", "queueId": 123}, METERED[0]]).posted(QUEUED) == Hold("QUEUE", 123)


@pytest.mark.parametrize(
    "changes",
    [
        {"priority": 40000},
        {"deviceId": "of:0000000000000051"},
        {"tableId": 1},
        {"selector": {"criteria": CRITERIA[:1]}},
        {"selector": {"criteria": [*CRITERIA, {"type": "IN_PORT", "port": 1}]}},
        {"selector": {"criteria": [*CRITERIA, {"type": "ETH_DST", "mac": "00:00:00:00:00:01"}]}},
        {"selector": {"criteria": [CRITERIA[0], {"type": "IPV4_SRC", "ip": "10.10.3.2/32"}]}},
    ],
)
def test_an_entry_at_another_place_is_not_the_flow(changes):
    assert entry().is_at(FLOW)
    assert not entry(**changes).is_at(FLOW)


@pytest.mark.parametrize(
    "changes", [{"unit": "PKTS_PER_SEC"}, {"bands": []}, {"bands": [{"type": "REMARK", "rate": 1}]}]
)
def test_a_meter_that_does_not_drop_above_one_rate_has_none(changes):
    assert meter(1).rate == MeterRate(10_000, 2_500)
    assert meter(1, **changes).rate is None


# --- what is done -----------------------------------------------------------------------------------------------


def test_a_new_flow_needs_a_new_meter():
    assert change(10_000, [], []) == (None, False, ())


def test_a_meter_that_the_flow_has_already_stays():
    assert change(10_000, [entry()], [meter(10, referenceCount=1)]) == (10, True, ())


def test_another_rate_needs_another_meter_and_the_former_goes():
    assert change(20_000, [entry()], [meter(10, referenceCount=1)]) == (None, False, (10,))


def test_what_a_crash_before_the_flow_was_pointed_has_left_is_used():
    assert change(20_000, [entry()], [meter(10, referenceCount=1), meter(11, 20_000)]) == (11, False, (10,))
    pending = meter(11, 20_000, state="PENDING_ADD")
    assert change(20_000, [entry()], [meter(10, referenceCount=1), pending]) == (11, False, (10,))


def test_what_a_crash_after_the_flow_was_pointed_has_left_is_removed():
    assert change(10_000, [entry()], [meter(9, 30_000), meter(10, referenceCount=1)]) == (10, True, (9,))


def test_a_meter_that_a_switch_still_uses_is_neither_used_nor_removed():
    assert change(30_000, [entry()], [meter(9, 30_000, referenceCount=1), meter(10)]) == (None, False, (10,))


def test_a_meter_that_another_flow_or_change_has_is_neither_used_nor_removed():
    other = entry(
        [METERED[0], {"type": "METER", "meterId": "9"}], selector={"criteria": CRITERIA[:1]}, state="PENDING_ADD"
    )
    assert change(30_000, [entry(), other], [meter(9, 30_000), meter(10)]) == (None, False, (10,))
    assert change(30_000, [entry()], [meter(9, 30_000), meter(10)], in_hand={9}) == (None, False, (10,))


def test_a_meter_that_two_flows_share_is_left_to_the_other():
    other = entry(selector={"criteria": CRITERIA[:1]})
    assert change(10_000, [entry(), other], [meter(10, referenceCount=2)]) == (None, False, ())


@pytest.mark.parametrize(
    "left",
    [
        meter(9, burst_kbit=10_000),
        meter(9, burst=False),
        meter(9, appId="org.example"),
        meter(9, unit="PKTS_PER_SEC"),
        meter(9, state="PENDING_ADD"),
        meter(9, 20_000, state="PENDING_REMOVE"),
        msgspec.convert({"id": "9", "unit": "KB_PER_SEC", "bands": []}, MeterEntry),
    ],
)
def test_a_meter_that_does_not_look_like_ours_is_left_alone(left):
    assert change(20_000, [entry()], [left, meter(10, referenceCount=1)]) == (None, False, (10,))


def test_a_former_meter_of_another_app_or_burst_is_replaced_and_only_ours_deleted():
    foreign = meter(10, appId="org.example", referenceCount=1)
    assert change(20_000, [entry()], [foreign]) == (None, False, ())
    by_hand = meter(10, burst_kbit=10_000, referenceCount=1)
    assert change(20_000, [entry()], [by_hand]) == (None, False, (10,))
    assert change(10_000, [entry()], [by_hand]) == (None, False, (10,))


def test_a_former_meter_goes_once_the_flow_has_another_though_the_switch_was_not_asked_again():
    after = [entry([METERED[0], {"type": "METER", "meterId": "b"}])]
    meters = [meter(10, referenceCount=1), meter(11, 20_000)]
    assert change(20_000, after, meters) == (11, True, ())
    assert change(20_000, after, meters, former=10) == (11, True, (10,))


def test_a_flow_of_somebody_else_is_refused_with_the_remedy():
    with pytest.raises(PermanentError, match=r"flow 48695172830457 of 'org\.example' .* set app_id"):
        change(10_000, [entry(appId="org.example")], [])


def test_the_steps_are_the_requests_in_their_order():
    rate = MeterRate(20_000, 5_000)
    found = meter_change(FLOW, rate, APP, [entry()], [meter(10, referenceCount=1)], burst_ms=250)
    assert list(found.steps(APP)) == [
        f'POST /onos/v1/meters/{DEVICE} {{"deviceId":"{DEVICE}","unit":"KB_PER_SEC","burst":true,'
        '"bands":[{"type":"DROP","rate":20000,"burstSize":5000}]}',
        f'POST /onos/v1/flows/{DEVICE}?appId=org.microopt {{"priority":40001,"timeout":0,"isPermanent":true,'
        f'"deviceId":"{DEVICE}","selector":{{"criteria":[{{"type":"ETH_TYPE","ethType":"0x800"}},'
        '{"type":"IPV4_SRC","ip":"10.10.3.1/32"}]},"treatment":{"instructions":'
        '[{"type":"METER","meterId":"<the new meter\'s>"},{"type":"OUTPUT","port":"NORMAL"}]}}',
        f"DELETE /onos/v1/meters/{DEVICE}/10",
    ]


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mbps", "kbps"), [(0.001, 1), (12.3456, 12_346), (40.0, 40_000), (4_294_967.295, 2**32 - 1)]
)
def test_a_rate_is_the_nearest_whole_kbit(mbps, kbps):
    assert rate_of("a", mbps, 250).kbps == kbps


def test_a_burst_is_time_at_the_rate_and_never_nothing():
    assert [rate_of("a", mbps, 250).burst_kbit for mbps in (40.0, 0.001)] == [10_000, 1]


@pytest.mark.parametrize("mbps", [0.0, -1.0, float("nan"), float("inf"), 0.0004, 4_294_967.296])
def test_a_rate_that_no_meter_can_have_is_refused(mbps):
    with pytest.raises(PermanentError, match="onos target 'a'"):
        rate_of("a", mbps, 250)


def test_of_two_equal_queues_the_first_is_taken():
    queues = [OnosQueue(id=2, mbps=5.0), OnosQueue(id=1, mbps=5.0), OnosQueue(id=0, mbps=1.0)]
    assert queue_for("a", 4.0, queues).id == 1


# --- settings ---------------------------------------------------------------------------------------------------


def flows(**named):
    settings = Settings({"actuator": {"onos": {"flows": named}}}, "microopt.toml")
    return settings.table("actuator", ActuatorSettings).onos.flows


def test_a_match_brings_the_protocols_that_it_needs():
    selector = {"ipv4_dst": "10.10.3.0/24", "udp_dst": 2152, "in_port": 1}
    found = flows(a={"device": DEVICE, "selector": selector})["a"].selector.criteria
    assert found == {
        "IN_PORT": 1,
        "ETH_TYPE": 0x800,
        "IP_PROTO": 17,
        "IPV4_DST": "10.10.3.0/24",
        "UDP_DST": 2152,
    }
    assert OnosSelector(tunnel_id=1001).criteria == {"TUNNEL_ID": 1001}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"selector": {}}, "matches everything"),
        ({"selector": {"ipv4_src": "10.10.3.231/24"}}, r"matches all of 10\.10\.3\.0/24; write that, or /32"),
        ({"selector": {"ipv4_src": "upf1"}}, "'upf1' is no IPv4 prefix"),
        ({"selector": {"ipv4_src": "10.10.3.1/32", "eth_type": 0x86DD}}, "needs eth_type 0x800, not 0x86dd"),
        ({"selector": {"udp_dst": 2152, "ip_proto": 6}}, "udp_dst needs ip_proto 17"),
        ({"selector": {"in_port": "eth1"}}, "in_port"),
        ({"selector": {"ip_src": "10.10.3.1/32"}}, "did you mean 'ipv4_src'"),
        ({"device": "of:50"}, "device 'of:50': write of: and 16"),
        ({"output": "normal"}, "output 'normal': write a port's number or one of NORMAL"),
        ({"queues": [{"id": 1, "mbps": 5}, {"id": 1, "mbps": 10}]}, "queue 1 twice"),
        ({"queues": [{"id": 1, "mbps": 0}]}, "mbps"),
    ],
)
def test_a_flow_that_cannot_be_is_named_with_the_remedy(changes, error):
    with pytest.raises(ConfigError, match=error):
        flows(a={"device": DEVICE, "selector": {"ipv4_src": "10.10.3.1/32"}, **changes})


def test_two_names_for_one_flow_of_a_switch_are_refused():
    one = {"device": DEVICE, "selector": {"ipv4_src": "10.10.3.1/32"}}
    with pytest.raises(ConfigError, match="flows 'a' and 'b' have the same device, priority and selector"):
        flows(a=one, b={**one, "output": 2})
    assert flows(a=one, b={**one, "priority": 5}).keys() == {"a", "b"}


def test_a_password_in_the_url_is_refused_and_not_repeated():
    table = {"onos": {"url": "http://onos:s3cret@h/onos/v1"}}
    with pytest.raises(ConfigError, match="url") as caught:
        Settings({"actuator": table}, "microopt.toml").table("actuator", ActuatorSettings)
    assert "s3cret" not in str(caught.value)
