"""The driver `ovs` without a switch: its notation, its messages, its replica and its transactions."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers import ovsdb_wire
from microopt_actuator.drivers.ovs_change import leftovers, new_config, operations
from microopt_actuator.drivers.ovs_place import find
from microopt_actuator.drivers.ovs_rows import Rows
from microopt_actuator.drivers.ovs_target import OvsTarget, parse_target
from microopt_actuator.drivers.ovsdb_wire import Outcome, Splitter, elements, pairs

# --- targets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("eth1/123", OvsTarget("eth1", 123)),
        ("n3-upf1.100/0", OvsTarget("n3-upf1.100", 0)),
        ("eth1/61439", OvsTarget("eth1", 61_439)),
        ("slice=1-000001", OvsTarget(tags={"slice": "1-000001"})),
        ("slice=1-000001,way=a/b c", OvsTarget(tags={"slice": "1-000001", "way": "a/b c"})),
    ],
)
def test_a_target_names_a_port_and_a_queue_or_tags(text, target):
    assert parse_target(text) == target
    assert str(target) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no port's name"),
        ("eth1", "'' is no port's name"),
        ("/1", "'' is no port's name"),
        ("eth 1/1", "'eth 1' is no port's name"),
        ("a/b/1", "'a/b' is no port's name"),
        ("eth1/", "'' is no queue id from 0 to 61439"),
        ("eth1/61440", "'61440' is no queue id"),
        ("eth1/-1", "'-1' is no queue id"),
        ("eth1/1x", "'1x' is no queue id"),
        ("eth1/1\n", "is no queue id"),
        ("eth1/²", "'²' is no queue id"),
        ("slice=", "'slice=' is no <key>=<value>"),
        ("=x", "'=x' is no <key>=<value>"),
        ("slice=1,", "'' is no <key>=<value>"),
        ("slice=1=2", "'slice=1=2' is no <key>=<value>"),
        ("x" * 1001, "longer than 1000 characters"),
    ],
)
def test_what_is_no_target_is_refused_with_the_notation(text, why):
    with pytest.raises(
        PermanentError, match=f"{why}.*write <port>/<queue id> as eth1/123, or .* as slice=1-000001"
    ):
        parse_target(text)


# --- messages ----------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('a"\\{}é\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"{}', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.integers(0, 99), values), max_size=4), st.lists(st.integers(0, 400), max_size=12))
def test_messages_are_found_wherever_the_stream_is_cut(said, cuts):
    stream = b"".join(json.dumps({"id": one, "result": value}).encode() for one, value in said)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    splitter = Splitter()
    found = [m for a, b in itertools.pairwise(edges) for m in splitter.feed(stream[a:b])]
    assert [(message.id, json.loads(bytes(message.result))) for message in found] == said


@pytest.mark.parametrize("data", [b'{"id":}', b'}{"id":1}', b"HTTP/1.1 400 {no}", b'{"id":1,"method":{}}'])
def test_what_is_no_message_is_an_error(data):
    with pytest.raises(TemporaryError, match="does not speak OVSDB"):
        list(Splitter().feed(data))


def test_a_message_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr(ovsdb_wire, "MAX_MESSAGE", 1 << 20)
    splitter = Splitter()
    assert list(splitter.feed(b'{"x":"' + b"a" * (1 << 20 - 1))) == []
    with pytest.raises(TemporaryError, match="longer than 1 MiB"):
        list(splitter.feed(b"a" * (1 << 20)))


def test_sets_and_maps_are_read_in_each_of_their_forms():
    assert elements(["set", []]) == []
    assert elements(["set", [["uuid", "a"], ["uuid", "b"]]]) == ["a", "b"]
    assert elements(["uuid", "a"]) == ["a"]
    assert elements(7) == [7]
    assert pairs(["map", [[1, ["uuid", "a"]], [2, ["uuid", "b"]]]]) == {1: "a", 2: "b"}
    assert pairs(["map", [["k", "v"]]]) == {"k": "v"}


# --- the replica -------------------------------------------------------------------------------------------------

NOTHING = ["set", []]


def text_map(**values):
    return ["map", [[key.replace("_", "-"), value] for key, value in values.items()]]


def queue_row(rate="10000000", **ids):
    return {"other_config": text_map(min_rate=rate, max_rate=rate), "external_ids": text_map(**ids)}


def qos_row(queues, most="100000000", kind="linux-htb", **ids):
    links = ["map", [[number, ["uuid", uuid]] for number, uuid in queues.items()]]
    config = text_map(max_rate=most) if most else text_map()
    return {"type": kind, "other_config": config, "queues": links, "external_ids": text_map(**ids)}


def port_row(name, qos, *interfaces):
    links = ["set", [["uuid", one] for one in interfaces or (f"if-{name}",)]]
    return {"name": name, "qos": ["uuid", qos] if qos else NOTHING, "interfaces": links}


def interface_row(name, mtu=1500, speed=NOTHING):
    return {"name": name, "type": "", "error": NOTHING, "mtu": mtu, "link_speed": speed}


@pytest.fixture
def rows():
    """Make a replica with port v0, whose QoS has queue 1."""
    made = Rows()
    take(made, Queue={"q1": queue_row(slice="a")}, QoS={"s0": qos_row({1: "q1"})})
    take(made, Port={"p0": port_row("v0", "s0")}, Interface={"if-v0": interface_row("v0")})
    take(made, Open_vSwitch={"o": {"next_cfg": 7, "cur_cfg": 6}})
    return made


def take(rows, **tables):
    rows.take(
        {
            table: {uuid: {} if new is None else {"new": new} for uuid, new in those.items()}
            for table, those in tables.items()
        }
    )


def rate_at(rows, text, **kwargs):
    return find(rows, parse_target(text), **kwargs).rate()


def test_the_replica_follows_what_is_said_of_rows(rows):
    assert (rows.next_cfg, rows.cur_cfg) == (7, 6)
    assert rate_at(rows, "v0/1") == rate_at(rows, "slice=a") == 10_000_000
    take(rows, Queue={"q1": queue_row("20000000", slice="a")})
    assert rate_at(rows, "v0/1") == rate_at(rows, "slice=a") == 20_000_000
    take(rows, Queue={"q1": queue_row(slice="b"), "q2": queue_row("5000000", slice="a")})
    take(rows, QoS={"s0": qos_row({1: "q1", 2: "q2"})})
    assert rate_at(rows, "slice=a") == rate_at(rows, "v0/2") == 5_000_000
    take(rows, QoS={"s0": qos_row({1: "q1"})}, Queue={"q2": None})
    with pytest.raises(PermanentError, match="no queue has these external_ids"):
        rate_at(rows, "slice=a")
    take(rows, Port={"p0": None})
    with pytest.raises(TemporaryError, match="no port v0 now"):
        rate_at(rows, "v0/1")
    with pytest.raises(PermanentError, match="queue q1 belongs to no port"):
        rate_at(rows, "slice=b")


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        ({"min_rate": "5000000", "max_rate": "5000000"}, 5_000_000),
        ({"min_rate": "5000003", "max_rate": "5000003"}, 5_000_000),
        ({"min_rate": "5000000", "max_rate": "6000000"}, None),
        ({"max_rate": "5000000"}, None),
        ({"min_rate": "5000000.0", "max_rate": "5000000.0"}, None),
        ({"min_rate": "1", "max_rate": "1"}, 12_000),
        ({"min_rate": "200000000", "max_rate": "200000000"}, 100_000_000),
        ({}, None),
    ],
)
def test_the_rate_in_force_is_what_open_vswitch_makes_of_the_row(rows, config, rate):
    take(rows, Queue={"q1": {"other_config": text_map(**config), "external_ids": text_map()}})
    assert rate_at(rows, "v0/1") == rate


@pytest.mark.parametrize(
    ("most", "speed", "limit"),
    [
        ("50000000", 10_000_000_000, 50_000_000),
        ("", 1_000_000_000, 1_000_000_000),
        ("50000000.0", 1_000_000_000, 1_000_000_000),
        ("", NOTHING, 100_000_000),
        ("40000000000", NOTHING, 5_640_261_632),
    ],
)
def test_the_limit_is_the_qos_or_the_link(rows, most, speed, limit):
    take(rows, QoS={"s0": qos_row({1: "q1"}, most)}, Interface={"if-v0": interface_row("v0", speed=speed)})
    assert find(rows, OvsTarget("v0", 1)).most == limit


def test_of_a_bond_the_slowest_link_and_the_largest_packet_count(rows):
    take(rows, Port={"p0": port_row("v0", "s0", "if-v0", "if-v1")}, QoS={"s0": qos_row({1: "q1"}, "")})
    take(rows, Interface={"if-v0": interface_row("v0", speed=10**9), "if-v1": interface_row("v1", 9000, 10**10)})
    place = find(rows, OvsTarget("v0", 1))
    assert (place.least, place.most) == (72_000, 10**9)


# --- transactions ------------------------------------------------------------------------------------------------


def test_a_transaction_replaces_both_rates_if_all_is_as_it_was_found(rows):
    place = find(rows, OvsTarget("v0", 1))
    *checks, change, raised, asked = operations(place, 5_000_000, OvsTarget("v0", 1), None)
    assert [(one["op"], one["table"]) for one in checks] == [("wait", t) for t in ("Port", "QoS", "Queue")]
    assert all(one["timeout"] == 0 for one in checks)
    assert change["mutations"] == [
        ["other_config", "delete", ["set", ["max-rate", "min-rate"]]],
        ["other_config", "insert", ["map", [["max-rate", "5000000"], ["min-rate", "5000000"]]]],
    ]
    assert raised["mutations"] == [["next_cfg", "+=", 1]]
    assert asked["op"] == "select"


DONE = [Outcome()] * 3 + [Outcome(count=1), Outcome(count=1), Outcome(rows=[{"next_cfg": 8}])]


@pytest.mark.parametrize(
    ("outcomes", "error", "text"),
    [
        ([*DONE[:3], Outcome(count=0), *DONE[4:]], TemporaryError, "no row of Queue was changed"),
        (
            [Outcome(), Outcome(error="timed out"), *[None] * 4],
            TemporaryError,
            "what was found there is no longer so",
        ),
        (
            [*DONE, Outcome(error="I/O error", details="disk full")],
            TemporaryError,
            "I/O error disk full; nothing was",
        ),
        (
            [*DONE[:3], Outcome(error="constraint violation"), None, None],
            PermanentError,
            "the database refuses: con",
        ),
        (
            [Outcome(error="permission error", details="no"), *[None] * 5],
            PermanentError,
            "refuses: permission error no",
        ),
    ],
)
def test_a_transaction_counts_only_if_all_of_it_was_done(rows, outcomes, error, text):
    target = OvsTarget("v0", 1)
    todo = operations(find(rows, target), 5_000_000, target, None)
    assert new_config(target, todo, DONE) == 8
    with pytest.raises(error, match=text):
        new_config(target, todo, outcomes)


def test_only_rows_of_ours_that_nothing_names_are_removed(rows):
    ours = {"microopt_owner": "actuator"}
    take(
        rows,
        Port={"p1": port_row("v1", "used")},
        QoS={"used": qos_row({1: "u1"}, **ours), "lost": qos_row({1: "l1", 2: "l2"}, **ours), "not": qos_row({})},
        Queue={"u1": queue_row(**ours), "l1": queue_row(**ours), "l2": queue_row(), "l3": queue_row(**ours)},
    )
    assert [(one["op"], one["table"], one["where"]) for one in leftovers(rows)] == [
        ("delete", table, [["_uuid", "==", ["uuid", uuid]]])
        for table, uuid in (("QoS", "lost"), ("Queue", "l1"), ("Queue", "l3"))
    ]
