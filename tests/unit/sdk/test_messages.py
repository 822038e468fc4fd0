import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from microopt import codec, subjects
from microopt.cli.schemas import KINDS, render
from microopt.errors import ConfigError, InvalidMessageError
from microopt.ids import slice_id
from microopt.messages import (
    Actuation,
    Allocation,
    Answer,
    Asked,
    Assurance,
    Check,
    Checked,
    Event,
    Forecast,
    Held,
    Holding,
    Holdings,
    Interval,
    Problem,
    SliceCheck,
    SliceProblem,
    SliceSolution,
    Solution,
    Telemetry,
    Traffic,
)
from microopt.specs import Bounds, Margin, ModelRoute, PoolSpec, ResourceSpec, Route, Sla, SliceSpec, key_of

SCHEMAS = Path(__file__).parents[3] / "docs/schemas"
START = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = Interval(START, 3600.0)
TRAFFIC = Traffic((1.0, 2.5), (0.25, 0.75))
SLA = Sla(qos_threshold=4.0, degradation_threshold=0.1)
BOUNDS = {"gnb_cpu": Bounds(500.0, 4500.0)}
CPU = {"gnb_cpu": ResourceSpec(unit="millicores", weight=1 / 4500, capacity=9000.0)}
SOLVED = SliceSolution(slice="1", allocation={"gnb_cpu": 900.0}, status="optimal", expected_degradation=0.09)

TELEMETRY = Telemetry(slice="1-000001", time=START, slot_s=1.0, users=3.0, qos=None)
FORECAST = Forecast(slice="1", interval=INTERVAL, traffic=TRAFFIC, model="seasonal-naive", made_at=START)
SOLUTION = Solution(pool="edge", interval=INTERVAL, optimizer="peak", slices=[SOLVED])
ANSWER = Answer(
    pool="edge", interval=INTERVAL, problem="a1", optimizer="peak", role="shadow", at=START, solution=SOLUTION
)
ALLOCATION = Allocation(
    slice="1",
    pool="edge",
    interval=INTERVAL,
    epoch=7,
    values={"gnb_cpu": 900.0},
    valid_until=START,
    optimizer="peak",
    status="feasible",
)
ACTUATION = Actuation(
    slice="1",
    resource="gnb_cpu",
    epoch=7,
    state="verified",
    requested=900.0,
    observed=899.5,
    driver="cgroup",
    at=START,
)
PROBLEM = Problem(
    pool="edge",
    interval=INTERVAL,
    resources=CPU,
    slices=[SliceProblem(slice="1", sla=SLA, traffic=TRAFFIC, bounds=BOUNDS, model="embb")],
)
ASKED = Asked(problem=PROBLEM, active="microopt", at=START, shadows=("peak",), epoch=7)
EVENT = Event(pool="edge", kind="refused", at=START, slice="1", optimizer="peak", reason="late")
ASSURANCE = Assurance(
    slice="1",
    pool="edge",
    interval=INTERVAL,
    epoch=7,
    optimizer="peak",
    status="FULFILLED",
    degradation_threshold=0.1,
    cost=0.7,
    at=START,
)
MESSAGES = [
    TELEMETRY,
    FORECAST,
    ANSWER,
    ALLOCATION,
    ACTUATION,
    ASKED,
    EVENT,
    ASSURANCE,
    PROBLEM,
    Check(problem=PROBLEM, allocations={"1": {"gnb_cpu": 900.0}}),
    Checked(slices=[SliceCheck(slice="1", expected_degradation=0.1)]),
    Held(slices={"1": ("gnb_cpu",)}),
    Holdings(slices=[Holding(slice="1", epoch=7, values={"gnb_cpu": 900.0})]),
    Margin(slice="1", degradation_threshold=0.08, judged=12, missed=0.25),
    Solution(pool="edge", interval=INTERVAL, optimizer="peak", slices=[SOLVED]),
    PoolSpec(pool="edge", resources=CPU),
    SliceSpec(slice="1", pool="edge", sla=SLA, bounds=BOUNDS, model="embb"),
    Route(pool="edge", active="microopt", shadows=("peak",), changed_at=START),
    ModelRoute(model="embb", version=3, previous=2, changed_at=START, changed_by="ops", reason="drifted"),
]
PUBLISHED = [m for m in MESSAGES if type(m) in subjects.ALL]


def name(value) -> str:
    return type(value).__name__ if isinstance(value, msgspec.Struct) else str(value)


def raw(message, **changes):
    return msgspec.json.encode({**msgspec.to_builtins(message), **changes})


def decode(data, kind=Telemetry):
    return codec.decode(data, kind, origin="microopt.telemetry.1")


def test_every_kind_that_has_a_schema_is_tested_here():
    assert {type(m) for m in MESSAGES} == set(KINDS)
    assert {type(m) for m in PUBLISHED} == set(subjects.ALL)


@pytest.mark.parametrize("message", MESSAGES, ids=name)
def test_a_message_comes_back_as_it_was_sent(message):
    assert codec.decode(codec.encode(message), type(message), origin="test") == message


@pytest.mark.parametrize("message", MESSAGES, ids=name)
def test_a_message_says_its_type_and_version_and_matches_its_published_schema(message):
    data = msgspec.json.decode(codec.encode(message))
    assert data["type"].startswith("microopt.")
    assert data["type"].endswith(".v1")
    schema = msgspec.json.decode((SCHEMAS / f"{type(message).__name__.lower()}.json").read_bytes())
    Draft202012Validator(schema).validate(data)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_published_schemas_are_up_to_date(kind):
    assert (SCHEMAS / f"{kind.__name__.lower()}.json").read_text() == render(kind)


@pytest.mark.parametrize(
    "message", [m for m in MESSAGES if not type(m).__name__.endswith(("Spec", "Route"))], ids=name
)
def test_fields_of_a_newer_version_are_ignored(message):
    assert codec.decode(raw(message, not_known_yet={"a": [1]}), type(message), origin="test") == message


@pytest.mark.parametrize(
    "message", [m for m in MESSAGES if type(m).__name__.endswith(("Spec", "Route"))], ids=name
)
def test_a_misspelt_field_of_desired_state_is_refused_by_name(message):
    with pytest.raises(InvalidMessageError, match="unknown field `weightt`"):
        codec.decode(raw(message, weightt=1), type(message), origin="test")


@pytest.mark.parametrize("message", MESSAGES, ids=name)
def test_what_an_older_sender_does_not_say_has_a_default(message):
    fields = msgspec.structs.fields(message)
    required = {f.encode_name for f in fields if f.required}
    data = {k: v for k, v in msgspec.to_builtins(message).items() if k in required or k == "type"}
    old = codec.decode(msgspec.json.encode(data), type(message), origin="test")
    for field in fields:
        if not field.required:
            assert getattr(old, field.name) == field.default or getattr(old, field.name) == field.default_factory()
    for field in required:
        del (short := dict(data))[field]
        with pytest.raises(InvalidMessageError, match=f"missing required field `{field}`"):
            codec.decode(msgspec.json.encode(short), type(message), origin="test")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"users": -1}, r">= 0\.0 - at `\$\.users`"),
        ({"users": 1e13}, r"<= .* - at `\$\.users`"),
        ({"users": "3"}, r"got `str` - at `\$\.users`"),
        ({"users": True}, r"got `bool` - at `\$\.users`"),
        ({"allocation": {"gnb_cpu": -1}}, r"at `\$\.allocation\[\.\.\.\]`"),
        ({"allocation": {"GNB CPU": 1}}, "matching regex .* at `key` in `.*allocation"),
        ({"time": "2026-01-01T00:00:00"}, r"timezone component - at `\$\.time`"),
        ({"time": "yesterday"}, r"at `\$\.time`"),
        ({"slot_s": 0}, r"at `\$\.slot_s`"),
        ({"slot_s": 1e9}, r"at `\$\.slot_s`"),
        ({"quality": "fine"}, r"'fine' - at `\$\.quality`"),
        ({"source": "x" * 2001}, r"at `\$\.source`"),
        ({"type": "microopt.telemetry.v2"}, r"'microopt\.telemetry\.v2' - at `\$\.type`"),
        ({"type": 1}, r"at `\$\.type`"),
    ],
)
def test_a_value_that_no_slice_can_have_is_refused_with_its_field_and_subject(changes, said):
    with pytest.raises(InvalidMessageError, match=rf"^microopt\.telemetry\.1: not a valid Telemetry: .*{said}"):
        decode(raw(TELEMETRY, **changes))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "nan"])
def test_what_is_no_number_is_refused(number):
    good = b'"users":3.0'
    data = raw(TELEMETRY)
    assert good in data
    with pytest.raises(InvalidMessageError, match=r"not a valid Telemetry"):
        decode(data.replace(good, f'"users":{number}'.encode()))


@pytest.mark.parametrize(
    "data", [b"", b"null", b"7", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"slice":"\xff"}', b"{}"]
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(InvalidMessageError, match=r"^microopt\.telemetry\.1: not a valid Telemetry: "):
        decode(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_number_that_no_reader_would_take_is_refused_where_it_is_sent(value):
    # JSON has no NaN: it would go out as null, which means unknown.
    with pytest.raises(InvalidMessageError, match=r"outgoing Forecast: .*\$\.traffic\.users\[0\]"):
        codec.encode(replace(FORECAST, traffic=Traffic((value,), (1.0,))))


def test_a_time_without_a_zone_is_refused_where_it_is_sent():
    with pytest.raises(InvalidMessageError, match=r"\$\.valid_until"):
        codec.encode(replace(ALLOCATION, valid_until=datetime(2026, 1, 1)))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("users", "weights", "said"),
    [
        ([1.0], [0.5], "weights sum to 0.5, not 1"),
        ([1.0, 2.0], [1.0], "2 users but 1 weights"),
        ([], [], r"length >= 1 - at `\$\.traffic\.users`"),
        ([1.0, 2.0], [1.5, -0.5], r"at `\$\.traffic\.weights\[0\]`"),
        ([1.0] * 1025, [1 / 1025] * 1025, r"length <= 1024 - at `\$\.traffic\.users`"),
    ],
)
def test_traffic_that_is_no_distribution_is_refused(users, weights, said):
    with pytest.raises(InvalidMessageError, match=said):
        decode(raw(FORECAST, traffic={"users": users, "weights": weights}), Forecast)


@pytest.mark.parametrize("epoch", [0, -1, 1.5, "7"])
def test_an_epoch_is_a_positive_whole_number(epoch):
    with pytest.raises(InvalidMessageError, match=r"\$\.epoch"):
        decode(raw(ALLOCATION, epoch=epoch), Allocation)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1", "1"),
        ("1-ffffff", "1"),
        ("1-FFFFFF", "1"),
        (" 1-00000A ", "1-00000a"),
        ("255-000000", "255-000000"),
        ("0", "0"),
        ("1-fffffe", "1-fffffe"),
        ("1-efffff", "1-efffff"),
    ],
)
def test_one_slice_has_one_name(written, canonical):
    assert slice_id(written) == canonical
    assert slice_id(canonical) == canonical
    assert decode(raw(TELEMETRY, slice=canonical)).slice == canonical


@pytest.mark.parametrize(
    "text",
    ["", "256", "-1", "01", "1-", "1-00001", "1-0000001", "1-00000g", "a", "1 2", "1-ffffff-ffffff", "*", "٣"],
)
def test_what_is_no_slice_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"not an S-NSSAI.*such as 1-000001"):
        slice_id(text)


@pytest.mark.parametrize("text", ["1-ffffff", "1-FFFFFF", "1-00000A", "256", "01", "1.2", "*", ">", ""])
def test_only_the_one_name_of_a_slice_is_taken_from_the_bus(text):
    with pytest.raises(InvalidMessageError, match=r"\$\.slice"):
        decode(raw(TELEMETRY, slice=text))


@pytest.mark.parametrize("message", PUBLISHED, ids=name)
def test_the_id_of_a_fact_survives_the_wire_and_says_nothing_of_what_may_differ_between_replicas(message):
    again = codec.decode(codec.encode(message), type(message), origin="test")
    assert again.message_id == message.message_id
    same = {
        Telemetry: {"qos": 1.0, "source": "b"},
        Forecast: {"model": "b"},
        Answer: {"latency_s": 1.0},
        Asked: {"at": LATER},
    }
    assert replace(message, **same.get(type(message), {})).message_id == message.message_id


LATER = START + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (TELEMETRY, [{"slice": "1"}, {"time": LATER}]),
        (FORECAST, [{"slice": "2"}, {"interval": Interval(LATER, 3600.0)}, {"interval": Interval(START, 1800.0)}]),
        (
            ANSWER,
            [{"pool": "b"}, {"role": "active"}, {"optimizer": "microopt"}, {"problem": "a2"}, {"at": LATER}],
        ),
        (ALLOCATION, [{"slice": "2"}, {"epoch": 8}]),
        (ASKED, [{"problem": replace(PROBLEM, deadline_s=2.0)}, {"epoch": 8}]),
        (EVENT, [{"slice": "2"}, {"kind": "fallback"}, {"reason": "absent"}, {"at": LATER}]),
        (ASSURANCE, [{"slice": "2"}, {"epoch": 8}, {"interval": Interval(LATER, 3600.0)}]),
        (ACTUATION, [{"slice": "2"}, {"resource": "b"}, {"epoch": 8}, {"state": "failed"}, {"at": LATER}]),
    ],
    ids=name,
)
def test_other_facts_have_other_ids(message, changes):
    ids = [replace(message, **change).message_id for change in [{}, *changes]]
    assert len(set(ids)) == len(ids)


def test_messages_of_different_types_never_share_an_id():
    assert len({m.message_id for m in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize(
    ("message", "subject"),
    [
        (TELEMETRY, "microopt.telemetry.1-000001"),
        (FORECAST, "microopt.forecast.1"),
        (ANSWER, "microopt.solution.peak.edge"),
        (ASKED, "microopt.problem.edge"),
        (EVENT, "microopt.event.edge"),
        (ASSURANCE, "microopt.assurance.1"),
        (ALLOCATION, "microopt.allocation.1"),
        (ACTUATION, "microopt.actuation.1.gnb_cpu"),
    ],
    ids=name,
)
def test_a_message_has_the_subject_that_the_table_says(message, subject):
    assert subjects.of(message) == subject
    pattern = subjects.ALL[type(message)].split(".")
    assert len(pattern) == len(subject.split("."))
    assert all(p in ("*", token) for p, token in zip(pattern, subject.split("."), strict=True))


@pytest.mark.parametrize("token", ["", "*", ">", "a.b", "a b", "a\n", "a\t", "a*"])
def test_a_subject_takes_no_wildcard_and_no_second_token(token):
    wrong = [
        replace(TELEMETRY, slice=token),
        replace(FORECAST, slice=token),
        replace(ANSWER, optimizer=token),
        replace(ANSWER, pool=token),
        replace(ALLOCATION, slice=token),
        replace(ACTUATION, resource=token),
    ]
    for build in [
        *(lambda m=m: subjects.of(m) for m in wrong),
        *(lambda f=f: f(token) for f in (subjects.optimize, subjects.dead)),
    ]:
        with pytest.raises(ConfigError, match="cannot be part of a subject"):
            build()


def test_what_has_no_subject_says_what_has():
    with pytest.raises(ConfigError, match=r"Route has no subject; .*Telemetry"):
        subjects.of(Route(pool="edge", active="peak"))


def test_desired_state_knows_the_key_that_it_stands_under():
    keys = {type(m): key_of(m) for m in MESSAGES}
    assert (keys[SliceSpec], keys[PoolSpec], keys[Route], keys[Telemetry]) == ("1", "edge", "edge", None)
