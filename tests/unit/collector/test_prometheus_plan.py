import msgspec
import pytest

from microopt.errors import ConfigError
from microopt_collector.sources.prometheus import PrometheusSourceSettings
from microopt_collector.sources.prometheus.plan import load, make_plan


def plan(**table):
    return make_plan(msgspec.convert({"kind": "prometheus", **table}, PrometheusSourceSettings))


@pytest.mark.parametrize("name", ["open5gs", "monarch", "cadvisor"])
def test_every_preset_can_be_used_as_it_is(name):
    found = plan(preset=name)
    assert found.queries
    assert "$" not in "".join(q.promql.replace('"$1"', "") for q in found.queries) + str(found.up)


def test_what_the_user_sets_beside_a_preset_wins():
    found = plan(
        preset="monarch",
        parameters={"direction": "uplink"},
        queries={"users": "my_users", "usage": {"gnb_cpu": "my_cpu"}},
        scale={"usage": {"gnb_cpu": 1000.0}},
        slice_label="slice",
    )
    assert [(q.name, q.scale) for q in found.queries] == [("users", 1.0), ("qos", 1e-6), ("usage.gnb_cpu", 1000.0)]
    assert found.queries[0].promql == "my_users"
    assert 'direction="uplink"' in found.queries[1].promql
    assert found.slice_label == "slice"


def test_an_empty_query_undoes_the_presets():
    assert [q.name for q in plan(preset="monarch", queries={"qos": ""}).queries] == ["users"]
    assert plan(preset="monarch", up="").up is None


def test_a_resource_is_named_by_a_parameter():
    found = plan(preset="cadvisor", parameters={"resource": "upf_cpu"})
    assert {q.name for q in found.queries} == {"usage.upf_cpu", "throttled.upf_cpu", "pressure.upf_cpu"}


def test_users_come_first_whoever_asks_for_them():
    assert [q.kind for q in plan(queries={"qos": "q", "users": "u"}).queries] == ["users", "qos"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, "nothing is asked for"),
        ({"preset": "open5g"}, "did you mean 'open5gs'"),
        ({"queries": {"users": "x[$window]"}}, "queries.users: parameter 'window' is not given; known: none"),
        ({"queries": {"users": 'x{a=~"b$"}'}}, r"queries.users: .* write \$\$ for a dollar"),
        ({"queries": {"users": "x", "usage": {"gNB CPU": "y"}}}, "usage.gNB CPU: not a resource's name"),
        ({"queries": {"users": "x"}, "scale": {"qos": 2.0}}, "scale.qos: there is no query of that name"),
        ({"queries": {"users": "x"}, "age": {"qos": "y"}}, "age.qos: there is no query of that name"),
        ({"queries": {"users": "x"}, "url": "http://user:secret@host"}, "url"),
        ({"queries": {"users": "x"}, "username": "u"}, "belong together"),
        ({"queries": {"users": "x"}, "slice_names": {"a": "b"}}, "'b': not an S-NSSAI"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(table, text):
    with pytest.raises(msgspec.ValidationError, match=text):
        plan(**table)


def test_a_dollar_is_written_twice():
    assert plan(queries={"users": 'x{a=~"b$$"}'}).queries[0].promql == 'x{a=~"b$"}'


def test_an_unknown_preset_is_named_with_what_there_is():
    with pytest.raises(ConfigError, match="cadvisor, monarch, open5gs"):
        load("zzz")
