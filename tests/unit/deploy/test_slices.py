from pathlib import Path

import msgspec
import pytest
import yaml

from microopt.desired import read_file
from microopt.settings import Settings
from microopt.specs import PeakSla, PoolSpec, ResourceSpec, Route, Sla, SliceSpec
from microopt_actuator.agent import DRIVERS
from microopt_actuator.bindings import Bindings
from microopt_actuator.settings import ActuatorSettings
from microopt_optimizer.solver.registry import SOLVERS
from microopt_testbed.emulator_agent import EmulatorSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
DESIRED = read_file(DEPLOY / "slices.yaml")
TABLES = yaml.safe_load((DEPLOY / "slices.yaml").read_text(encoding="utf-8"))
SETTINGS = Settings.load(DEPLOY / "microopt.toml", {})
EMULATED = SETTINGS.table("testbed", EmulatorSettings)
(POOL,) = DESIRED.pools
SLICES = pytest.mark.parametrize("spec", DESIRED.slices, ids=lambda spec: spec.slice)


def names(kind) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def test_every_emulated_slice_is_desired_and_no_other():
    assert {spec.slice for spec in DESIRED.slices} == {one.slice for one in EMULATED.slices}
    assert {spec.pool for spec in DESIRED.slices} == {POOL.pool}


def test_the_first_of_each_shows_every_field_that_an_operator_can_set():
    pool, slice_, route = (next(iter(TABLES[table].values())) for table in ("pools", "slices", "routes"))
    assert set(pool) == names(PoolSpec) - {"pool"}
    assert set(slice_) == names(SliceSpec) - {"slice"}
    assert set(slice_["sla"]) == names(Sla)
    assert set(slice_["peak"]) == names(PeakSla)
    assert all(set(resource) == names(ResourceSpec) for resource in pool["resources"].values())
    assert set(route) == names(Route) - {"pool", "changed_at", "changed_by"}  # `microopt route` fills these in


@SLICES
def test_times_are_those_of_the_emulated_slices(spec):
    assert spec.slot_s == EMULATED.slot_s
    assert spec.interval_s == EMULATED.slot_s * EMULATED.slots_per_interval
    assert spec.season_s == spec.interval_s * EMULATED.intervals_per_day * EMULATED.days


@SLICES
def test_peak_allocations_and_what_is_in_force_at_first_are_within_bounds(spec):
    (emulated,) = (one for one in EMULATED.slices if one.slice == spec.slice)
    for values in (spec.peak_allocation, emulated.resources):
        assert set(values) == set(spec.bounds)
        for name, value in values.items():
            assert spec.bounds[name].floor <= value <= spec.bounds[name].ceiling


@SLICES
def test_the_actuator_has_a_driver_for_every_resource(spec):
    bindings = Bindings(SETTINGS.table("actuator", ActuatorSettings).bindings, DRIVERS)
    for name in spec.bounds:
        assert bindings.find(spec.slice, name).target == f"{spec.slice}.{name}"


def test_what_blind_slices_can_have_fits_into_the_capacities():
    def most(spec, name) -> float:
        return spec.peak_allocation[name] if spec.blind_policy == "peak" else spec.bounds[name].ceiling

    for name, resource in POOL.resources.items():
        assert sum(most(spec, name) for spec in DESIRED.slices) <= resource.capacity


def test_resources_are_weighted_as_their_ceilings():
    spec = DESIRED.slices[0]
    prices = [POOL.resources[name].weight * bounds.ceiling for name, bounds in spec.bounds.items()]
    assert prices == pytest.approx([1.0] * len(prices), rel=1e-4)


def test_routes_name_optimizers_that_a_worker_serves():
    (route,) = DESIRED.routes
    assert route.pool == POOL.pool
    assert {route.active, *route.shadows} <= set(SOLVERS)
