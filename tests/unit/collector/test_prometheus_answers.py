import msgspec
import pytest

from microopt_collector.sources.base import Rejected
from microopt_collector.sources.prometheus import PrometheusSourceSettings
from microopt_collector.sources.prometheus.answers import Answered, check_up, combine
from microopt_collector.sources.prometheus.api import Sample
from microopt_collector.sources.prometheus.plan import make_plan

NOW_S = 1_800_000_000.0
TABLE = {"kind": "prometheus", "queries": {"users": "u", "qos": "q"}, "scale": {"qos": 1e-6}}


def sample(value: str, **labels: str) -> Sample:
    return Sample(labels, (NOW_S, value))


def combined(users=(), qos=(), ages=None, usage=None, **table):
    plan = make_plan(msgspec.convert(TABLE | table, PrometheusSourceSettings))
    answers = {"users": users, "qos": qos, "usage.gnb_cpu": usage, "throttled.gnb_cpu": usage}
    asked = [
        Answered(query, answers[query.name], ages if query.kind == "users" else None) for query in plan.queries
    ]
    measurements, refusals = combine(asked, plan, source="prom", time_s=NOW_S)
    return measurements, [(r.name, r.error.reason, str(r.error)) for r in refusals]


def test_each_slice_gets_its_users_and_its_qos_in_its_own_unit():
    measurements, refusals = combined(
        users=[sample("3", snssai="1-000001"), sample("0", snssai="2")],
        qos=[sample("4500000", snssai="1-000001")],
    )
    assert refusals == []
    assert [(m.slice, m.users, m.qos, m.time_s) for m in measurements] == [
        ("1-000001", 3.0, pytest.approx(4.5), NOW_S),
        ("2", 0.0, None, NOW_S),
    ]


def test_an_empty_answer_is_missing_and_not_zero():
    measurements, refusals = combined(users=[], qos=[sample("1e6", snssai="2")])
    assert [(m.users, m.qos) for m in measurements] == [(None, 1.0)]
    [(name, reason, text)] = refusals
    assert (name, reason) == ("users", "empty")
    assert "that is not 0" in text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NaN", "not_a_number"),
        ("+Inf", "not_a_number"),
        ("-Inf", "negative"),
        ("-1", "negative"),
        ("1e30", "implausible"),
        ("x", "not_a_number"),
    ],
)
def test_a_value_that_is_no_number_of_users_leaves_the_others(value, reason):
    measurements, refusals = combined(
        users=[sample(value, snssai="1"), sample("3", snssai="2")],
        qos=[sample("4e6", snssai="1"), sample("4e6", snssai="2")],
    )
    assert [(m.slice, m.users, m.qos) for m in measurements] == [("1", None, 4.0), ("2", 3.0, 4.0)]
    [(name, found, text)] = refusals
    assert (name, found) == ("users", reason)
    assert text.startswith("slice 1: ")


def test_the_quotient_of_a_slice_without_users_is_no_fault():
    measurements, refusals = combined(users=[sample("0", snssai="2")], qos=[sample("NaN", snssai="2")])
    assert [(m.users, m.qos) for m in measurements] == [(0.0, None)]
    assert refusals == []


def test_a_result_without_the_label_is_of_no_slice():
    _, refusals = combined(users=[sample("3", job="smf")], qos=[sample("1", snssai="embb")])
    assert [(name, reason) for name, reason, _ in refusals] == [("users", "no_slice"), ("qos", "no_slice")]
    assert "has no label 'snssai' (it has job)" in refusals[0][2]


def test_several_series_of_a_slice_are_not_guessed_from():
    users = [sample("3", snssai="2", nf="a"), sample("4", snssai="2", nf="b")]
    measurements, refusals = combined(users=users, qos=[sample("1e6", snssai="2")])
    assert [(m.users, m.qos) for m in measurements] == [(None, 1.0)]
    assert ("users", "error") in [(name, reason) for name, reason, _ in refusals]
    assert "sum by (snssai)" in refusals[0][2]


def test_a_fixed_slice_and_other_names():
    [one], _ = combined(users=[sample("3")], qos=[sample("1e6")], slice="1-FFFFFF")
    assert (one.slice, one.users, one.qos) == ("1", 3.0, 1.0)
    names = {"upf1": "1-000001"}
    [one], _ = combined(
        users=[sample("3", pod="upf1")],
        qos=[sample("1e6", pod="upf1")],
        slice_label="pod",
        slice_names=names,
    )
    assert one.slice == "1-000001"


def test_old_samples_are_stale_and_those_of_unknown_age_too():
    users = [sample("3", snssai=name) for name in ("1", "2", "3")]
    qos = [sample("1e6", snssai="1")]
    ages = [sample("5", snssai="1"), sample("61", snssai="2")]
    measurements, refusals = combined(users=users, qos=qos, ages=ages, max_age_s=60.0, age={"users": "a"})
    assert [m.slice for m in measurements] == ["1"]
    assert [reason for _, reason, _ in refusals] == ["stale", "stale"]
    assert "slice 2: the last sample is 61 s old; max_age_s is 60" in refusals[0][2]
    assert "slice 3: the age of its samples is unknown" in refusals[1][2]


def test_an_age_without_a_slice_is_that_of_all():
    users, qos = [sample("3", snssai="1")], [sample("1e6", snssai="1")]
    measurements, refusals = combined(users=users, qos=qos, ages=[sample("99")], age={"users": "a"})
    assert [(m.users, m.qos) for m in measurements] == [(None, 1.0)]
    assert [reason for _, reason, _ in refusals] == ["stale"]


def test_what_there_is_only_with_a_quota_may_be_missing_and_is_a_share():
    queries = {"queries": {"throttled": {"gnb_cpu": "t"}}, "scale": {}}
    assert combined(usage=[], **queries) == ([], [])
    [one], _ = combined(usage=[sample("1.01", snssai="1")], **queries)
    assert one.throttled == {"gnb_cpu": 1.0}
    _, [(name, reason, _)] = combined(usage=[sample("40", snssai="1")], **queries)
    assert (name, reason) == ("throttled.gnb_cpu", "implausible")


def test_a_target_that_is_down_or_unknown_makes_all_of_it_unknown():
    check_up([sample("1", job="smf")], "up")
    with pytest.raises(Rejected, match="1 of 2 targets of up are down: smf gnb:9090") as caught:
        check_up([sample("1", job="smf"), sample("0", job="smf", instance="gnb:9090")], "up")
    assert caught.value.reason == "down"
    with pytest.raises(Rejected, match="no target matches up") as caught:
        check_up([], "up")
    assert caught.value.reason == "down"
