from textwrap import dedent

import pytest

from microopt.desired import read_file
from microopt.errors import ConfigError

POOL = """
pools:
  edge:
    resources:
      gnb_cpu: {unit: millicores, weight: 0.0002, capacity: 9000}
"""
SLICE = """
slices:
  1-000001:
    pool: edge
    model: embb
    sla: {qos_threshold: 4, degradation_threshold: 0.1}
    bounds: {gnb_cpu: [500, 4500]}
"""
FIELDS = "{pool: edge, model: embb, sla: {qos_threshold: 4, degradation_threshold: 0.1}, bounds: {gnb_cpu: B}}"
BOUNDS = "{floor: 500, ceiling: 4500}"
SLICE = SLICE.replace("[500, 4500]", BOUNDS)


def entry(name: str) -> str:
    return f"  {name}: {FIELDS.replace('B', BOUNDS)}\n"


@pytest.fixture
def read(tmp_path):
    def from_text(text: str):
        path = tmp_path / "slices.yaml"
        path.write_text(dedent(text))
        return read_file(path)

    return from_text


def refused(read, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        read(text)
    assert "slices.yaml" in str(error.value) or str(error.value).startswith("slice ")
    return str(error.value)


def test_pools_slices_and_routes_are_read_with_their_names(read):
    desired = read(POOL + SLICE + "routes:\n  edge: {active: peak}\n")
    assert [p.pool for p in desired.pools] == ["edge"]
    assert [(s.slice, s.pool, s.sla.qos_threshold) for s in desired.slices] == [("1-000001", "edge", 4.0)]
    assert [(r.pool, r.active) for r in desired.routes] == [("edge", "peak")]


def test_tables_may_be_absent_or_empty(read):
    assert read("pools:\n").pools == []
    assert read("routes: {edge: {active: peak}}").slices == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the tables pools, slices and routes"),
        ("- 1", "expected the tables"),
        ("pool: {}", "expected the tables"),
        ("pools: [edge]", "pools: expected names, each with its fields"),
        ("pools: {edge: 3}", "pools/edge: expected fields, got 3"),
        ("pools: {edge:}", "pools/edge: expected fields, got None"),
        ("pools: {", "cannot be read"),
        ("pools: {edge: 2026-13-45}", "cannot be read"),
        ("pools: &a {edge: *a}", "pools/edge: unknown key 'edge'"),
    ],
)
def test_a_file_that_is_no_desired_state_is_refused(read, text, said):
    assert said in refused(read, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: .*No such file"):
        read_file(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: cannot be read"):
        read_file(binary)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("pool: edge", "pool: core"), "slice 1-000001: pool 'core' is not given; pools: edge"),
        (("gnb_cpu: {floor", "upf_cpu: {floor"), "bounds name ['upf_cpu'], pool 'edge' has ['gnb_cpu']"),
        (("floor: 500", "floor: 5000"), "slices/1-000001: floor 5000 is above ceiling 4500 - at `$.bounds[...]`"),
        (("floor: 500", "floor: -1"), "slices/1-000001: Expected `float` >= 0.0 - at `$.bounds[...].floor`"),
        (("floor: 500", "flooor: 500"), "unknown key 'flooor'; did you mean 'floor'? - at `$.bounds[...]`"),
        (("model: embb", "moodel: embb"), "slices/1-000001: unknown key 'moodel'; did you mean 'model'?"),
        (("model: embb", "model: eMBB v1"), "slices/1-000001: Expected `str` matching regex"),
        (("model: embb", "model: 7"), "slices/1-000001: Expected `str`, got `int` - at `$.model`"),
        (("    model: embb\n", ""), "slices/1-000001: Object missing required field `model`"),
        (("qos_threshold: 4", "qos_threshold: good"), "got `str` - at `$.sla.qos_threshold`"),
        (("qos_threshold: 4", "qos_threshold: .nan"), "at `$.sla.qos_threshold`"),
        (("qos_threshold: 4,", ""), "missing required field `qos_threshold` - at `$.sla`"),
        (("threshold: 0.1", "threshold: 1.0"), "at `$.sla.degradation_threshold`"),
        (("{qos_threshold: 4, degradation_threshold: 0.1}", "strict"), "got `str` - at `$.sla`"),
        (("{qos_threshold: 4,", "{qos_treshhold: 4,"), "did you mean 'qos_threshold'? - at `$.sla`"),
        (("model: embb", "model: embb\n    slot_s: 9000"), "slot_s 9000 is longer than interval_s 3600"),
        (("model: embb", "model: embb\n    blind_policy: peak"), "'peak' needs peak_allocation for ['gnb_cpu']"),
        (("model: embb", "model: embb\n    blind_policy: panic"), "'panic' - at `$.blind_policy`"),
        (("model: embb", "model: embb\n    slice: 1-000002"), "slices/1-000001: 'slice' follows from where"),
        (("weight: 0.0002", "weight: 0"), "pools/edge: Expected `float` > 0.0 - at `$.resources[...].weight`"),
        (("unit: millicores, ", ""), "pools/edge: Object missing required field `unit`"),
        (("gnb_cpu: {unit", "gNB CPU: {unit"), "pools/edge: Expected `str` matching regex"),
        (("  edge:\n", "  Edge!:\n"), "pools/Edge!: Expected `str` matching regex"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_field(read, change, said):
    text = POOL + SLICE
    assert change[0] in text
    assert said in refused(read, text.replace(*change, 1))


def test_a_route_that_cannot_be_used_is_named(read):
    assert "routes/edge: " in (error := refused(read, POOL + "routes: {edge: {active: 'a b'}}"))
    assert "$.active" in error
    assert "routes/edge: unknown key 'optimizer'" in refused(read, "routes: {edge: {optimizer: peak}}")


@pytest.mark.parametrize("name", ["000001", "1_0", "0x1", "1e3", "1.0", "yes", "~"])
def test_a_slice_is_read_as_it_was_written_not_as_the_number_that_yaml_makes_of_it(read, name):
    error = refused(read, POOL + "slices:\n" + entry(name))
    assert f"slices/{name}: slice {name!r}: not an S-NSSAI" in error


def test_a_slice_without_sd_may_be_written_as_a_number(read):
    assert [s.slice for s in read(POOL + "slices:\n" + entry("1") + entry("'2'")).slices] == ["1", "2"]


def test_slices_get_their_canonical_name(read):
    assert [s.slice for s in read(POOL + "slices:\n" + entry("1-00000A") + entry("1-FFFFFF")).slices] == [
        "1-00000a",
        "1",
    ]


@pytest.mark.parametrize(("first", "second"), [("1-00000a", "1-00000A"), ("1", "1-ffffff")])
def test_a_slice_that_is_given_twice_under_two_spellings_is_refused(read, first, second):
    said = refused(read, POOL + "slices:\n" + entry(first) + entry(second))
    assert f"slices/{second}: the same as {first}" in said


def test_a_name_that_is_given_twice_is_refused_for_the_last_would_win_silently(read):
    assert "'1-000001' is given twice" in refused(read, POOL + "slices:\n" + entry("1-000001") * 2)
