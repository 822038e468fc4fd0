"""Whatever comes, a source gives measurements that telemetry can hold, or rejections; it never fails."""

import json
import math
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microopt_collector.sources.base import Measurement, Reason, Rejected
from microopt_collector.sources.mapping import FieldMap, Mapper
from microopt_collector.sources.prometheus import PrometheusSourceSettings
from microopt_collector.sources.prometheus.answers import Answered, combine
from microopt_collector.sources.prometheus.api import Sample
from microopt_collector.sources.prometheus.plan import make_plan
from microopt_collector.sources.srsran_report import Cells, read

NOW_S = 1_800_000_000.0
REASONS = typing.get_args(Reason)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -0.0, 1e308, 10**400, NOW_S, NOW_S * 1e3]))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=9), st.sampled_from(["1-000001", "NaN"]))
KEYS = st.sampled_from(["slice", "time", "u", "q", "c", "x"])
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=12,
)
FIELDS = {"users_field": "u", "qos_field": "q", "usage_fields": {"gnb_cpu": "c.x"}}
MAPS = [
    FieldMap(**FIELDS),
    FieldMap(**FIELDS, qos_counter=True, qos_scale=8e-6, slice_token=0, time_field="", qos_per="slice"),
    FieldMap(**FIELDS, slice="1", time_unit="rfc3339", qos_scale=1e300),
    FieldMap(**FIELDS, slice_names={"x": "1"}, time_unit="ms", qos_per="slice"),
]


def check(found: list[Measurement | Rejected]) -> None:
    for item in found:
        if isinstance(item, Rejected):
            assert item.reason in REASONS
            assert str(item)
            continue
        for value in (item.users, item.qos, *item.usage.values()):
            assert value is None or (math.isfinite(value) and 0.0 <= value <= 1e12)
        for share in (*item.pressure.values(), *item.throttled.values()):
            assert 0.0 <= share <= 1.0
        assert math.isfinite(item.time_s)


@pytest.mark.parametrize("fields", MAPS)
@given(messages=st.lists(JSON, min_size=1, max_size=3), topic=st.text(max_size=9))
def test_any_json_is_mapped_or_rejected(fields, messages, topic):
    mapper = Mapper(fields, "ran", "/")
    for message in messages:
        check(mapper.read(json.dumps(message).encode(), topic, NOW_S))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_mapped_or_rejected(data):
    check(Mapper(MAPS[0], "ran", "/").read(data, "", NOW_S))


UE_KEYS = st.sampled_from(
    ["ue_list", "cells", "cell_metrics", "pci", "dl_brate", "dl_bs", "ue_container", "error"]
)
REPORTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(UE_KEYS, inner, max_size=6)),
    max_leaves=16,
)


@given(found=REPORTS, active_only=st.booleans(), every=st.sampled_from(["1", None]))
def test_any_report_of_a_gnb_is_mapped_or_rejected(found, active_only, every):
    cells = Cells(every=every, by_pci={} if every else {1: "1", 2: "2"})
    check(read(found, cells, active_only=active_only, source="gnb", now_s=NOW_S))


PLAN = make_plan(
    msgspec.convert(
        {
            "kind": "prometheus",
            "queries": {"users": "u", "qos": "q", "throttled": {"gnb_cpu": "t"}},
            "scale": {"qos": 1e-6},
            "age": {"users": "a"},
        },
        PrometheusSourceSettings,
    )
)
VALUES = st.one_of(st.floats().map(str), st.text(max_size=5), st.sampled_from(["NaN", "+Inf", "-Inf", "0", "1"]))
SAMPLES = st.lists(
    st.builds(
        Sample,
        st.dictionaries(st.sampled_from(["snssai", "job"]), st.sampled_from(["1", "2", "x"]), max_size=2),
        st.tuples(st.just(NOW_S), VALUES),
    ),
    max_size=5,
)


@given(answers=st.lists(SAMPLES, min_size=3, max_size=3), ages=SAMPLES)
def test_any_answer_of_prometheus_is_combined_or_rejected(answers, ages):
    asked = [
        Answered(query, samples, ages if query.age else None)
        for query, samples in zip(PLAN.queries, answers, strict=True)
    ]
    measurements, refusals = combine(asked, PLAN, source="prom", time_s=NOW_S)
    check([*measurements, *(refusal.error for refusal in refusals)])
