import pytest

from microopt.errors import ConfigError
from microopt_actuator.bindings import Binding, Bindings, Bound

DRIVERS = ("cgroup", "record", "testbed")


def binding(slice_="*", resource="gnb_cpu", driver="testbed", target="{slice}.{resource}"):
    return Binding(slice=slice_, resource=resource, driver=driver, target=target)


def bind(*bindings):
    return Bindings(bindings, DRIVERS)


def test_a_wildcard_binds_every_slice_to_its_own_target():
    bindings = bind(binding(target="{slice}.gnb_cpu"))
    assert bindings.find("1-000001", "gnb_cpu") == Bound("testbed", "1-000001.gnb_cpu")
    assert bindings.find("2", "gnb_cpu") == Bound("testbed", "2.gnb_cpu")


def test_a_resource_that_nobody_has_bound_is_not_ours():
    assert bind(binding()).find("2", "transport_bandwidth") is None
    assert bind(binding("1")).find("2", "gnb_cpu") is None


def test_the_most_specific_binding_wins_in_any_order():
    entries = [
        binding("*", "*", target="any/{slice}/{resource}"),
        binding("*", "gnb_cpu", target="resource/{slice}"),
        binding("1", "*", target="slice/{resource}"),
        binding("1", "gnb_cpu", target="both"),
    ]
    for order in (entries, entries[::-1]):
        bindings = bind(*order)
        found = [bindings.find(s, r) for s, r in (("1", "gnb_cpu"), ("1", "b"), ("2", "gnb_cpu"), ("2", "b"))]
        assert [one.target for one in found if one] == ["both", "slice/b", "resource/2", "any/2/b"]


def test_a_slice_is_known_by_its_canonical_name():
    bindings = bind(binding("1-00000A", target="x"), binding("2-FFFFFF", target="y"))
    assert bindings.find("1-00000a", "gnb_cpu") == Bound("testbed", "x")
    assert bindings.find("2", "gnb_cpu") == Bound("testbed", "y")


def test_only_drivers_that_are_bound_are_used():
    assert bind(binding(), binding("1", driver="cgroup", target="/pod")).drivers == {"testbed", "cgroup"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (binding("eMBB", target="x"), "slice 'eMBB'.*S-NSSAI"),
        (binding(resource="GNB CPU"), "resource must be"),
        (binding(driver="cgruop"), "driver 'cgruop' is not one of cgroup, record, testbed"),
        (binding(target=""), "target is empty"),
        (binding(target="/{slice}/{pod}"), r"target has \{pod\}"),
        (binding(target="/shared"), "target '/shared' would be shared by every slice"),
        (binding("1", "*", target="{slice}"), "target .* would be shared by every resource"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_field(wrong, field):
    with pytest.raises(ConfigError, match=rf"^\[actuator\] bindings\[1\] \(slice '{wrong.slice[0]}?.*{field}"):
        bind(binding("3", target="good"), wrong)


def test_one_resource_is_not_bound_twice():
    with pytest.raises(ConfigError, match=r"bindings\[1\] .* bound twice"):
        bind(binding("1-00000a", target="x"), binding("1-00000A", target="y"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (binding("1", target="/pod"), binding("2", target="/pod")),
        (binding("1", "a", target="/pod"), binding("1", "b", target="/pod")),
        (binding("1", "*", target="/{resource}"), binding("2", "*", target="/{resource}")),
    ],
)
def test_two_things_do_not_share_a_target(first, second):
    with pytest.raises(ConfigError, match=r"bindings\[1\] .* is also that of slice '1'"):
        bind(first, second)


def test_targets_that_differ_by_what_is_filled_in_are_not_shared():
    bindings = bind(binding("1", "*"), binding("2", "*"))
    assert bindings.find("1", "a") == Bound("testbed", "1.a")
    assert bindings.find("2", "a") == Bound("testbed", "2.a")
