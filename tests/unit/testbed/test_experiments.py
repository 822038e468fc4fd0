"""The experiments' own parts: settings, distributions, oracle, what the paper prints."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.distribution import normal
from microopt_optimizer.slice_model.model_file import ModelHeader, Range, ResourceInput
from microopt_optimizer.slice_model.network import Architecture
from microopt_testbed.experiments import distributions, paper, sources, tables
from microopt_testbed.experiments.approaches import cost
from microopt_testbed.experiments.cli import reproduce
from microopt_testbed.experiments.comparison import exactness
from microopt_testbed.experiments.oracle import Oracle
from microopt_testbed.experiments.settings import BOUNDS, FULL, UNITS, WEIGHTS, Setting, constant, table_1
from microopt_testbed.experiments.store import Outcome

QUANTILE = 1.2815515655446004  # of 0.9 of the standard normal: what degradation threshold 0.1 asks for
STD = 0.5


@dataclass(frozen=True)
class Root:
    """QoS of mean `gain` √(CPU · bandwidth) / users: the cheapest allocation is known in closed form."""

    gain: float = 0.04
    name: str = "root"

    @property
    def header(self):
        return ModelHeader(
            architecture=Architecture(inputs=3),
            resources=tuple(ResourceInput(name=n, unit=UNITS[n], trained=Range(0.0, 1e6)) for n in BOUNDS),
            users=Range(1.0, 5.0),
            qos_metric="dl_thpt_per_ue",
            qos_unit="Mbit/s",
            higher_is_better=True,
        )

    def __call__(self, users, resources):
        mean = self.gain * torch.sqrt(resources[..., 0] * resources[..., 1]) / users
        return normal(mean, torch.full_like(mean, STD))


def test_there_are_45_constant_settings_and_table_1_is_five_of_them():
    assert len(constant(FULL)) == len(set(constant(FULL))) == 45
    assert set(table_1(FULL)) < set(constant(FULL))


def test_printed_costs_of_table_1_agree_with_the_printed_decreases():
    # Peak-alloc's printed mean, 1.534, and its printed row differ by the paper's rounding only.
    (peak,) = paper.TABLE_1["peak"]
    allocation = {"gnb_cpu": peak.cpu_millicores, "transport_bandwidth": peak.bandwidth_mbps}
    assert cost(allocation) == pytest.approx(paper.CONSTANT_COST["peak"], abs=0.005)
    for name, decrease in paper.CONSTANT_DECREASE.items():
        ratio = paper.CONSTANT_COST["microopt"] / paper.CONSTANT_COST[name]
        assert 1.0 - ratio == pytest.approx(decrease, abs=0.001)


@pytest.mark.parametrize(("grid_points", "within"), [(40, 1e-3), (200, 1e-5), (1000, 1e-6)])
@pytest.mark.parametrize("users", [2.0, 3.7])
def test_the_oracle_finds_a_known_optimum(users, grid_points, within):
    setting = Setting((users,), (1.0,), 4.0, 0.1)
    found = Oracle(Root(), grid_points).cheapest(setting)
    product = ((4.0 + QUANTILE * STD) * users / Root().gain) ** 2
    best = 2.0 * math.sqrt(product * math.prod(WEIGHTS.values()))
    assert cost(found) == pytest.approx(best, rel=within)
    assert cost(found) >= best * (1.0 - 1e-12)
    reached = Oracle(Root(), 2).degradation(setting, torch.tensor([list(found.values())], dtype=torch.float64))
    assert float(reached[0]) <= 0.1


def test_the_oracle_says_when_nothing_within_the_bounds_holds():
    assert Oracle(Root(), 50).cheapest(Setting((5.0,), (1.0,), 20.0, 0.1)) is None


def test_the_oracle_weighs_atoms_by_their_users():
    light, heavy = Setting((2.0, 4.0), (0.9, 0.1), 4.0, 0.2), Setting((2.0, 4.0), (0.6, 0.4), 4.0, 0.2)
    oracle = Oracle(Root(), 100)
    assert cost(oracle.cheapest(light)) < cost(oracle.cheapest(heavy))


def outcome(approach, cost, solve_s=0.1):
    return Outcome(
        approach=approach,
        setting=Setting((2.0,), (1.0,), 4.0, 0.1),
        allocation={},
        cost=cost,
        expected_degradation=0.1,
        status="feasible",
        solve_s=solve_s,
    )


@pytest.mark.parametrize(
    ("others", "said", "unsaid"),
    [
        ({}, "median gap +0", "other approach"),
        ({"peak": outcome("peak", 1.5)}, "No other approach holds the SLA with less", "cut short"),
        ({"peak": outcome("peak", 1.5, 1e9)}, "cut short by its deadline", "holds the SLA with less in 1"),
        ({"peak": outcome("peak", 1.5, 1e9)}, "No other approach holds the SLA with less", "in 1 settings, by"),
        ({"peak": outcome("peak", 0.5)}, "with less in 1 settings, by 50.0000 %", "No other approach"),
    ],
)
def test_what_is_said_of_others_beside_the_oracle(others, said, unsaid):
    outcomes = {"oracle": [outcome("oracle", 1.0)], "microopt": [outcome("microopt", 1.0)]}
    text = exactness(outcomes | {name: [one] for name, one in others.items()})
    assert said in text
    assert unsaid not in text


@pytest.mark.parametrize("centre", [1, 3, 5])
@pytest.mark.parametrize("sigma", [0.2, 1.1, 5.0])
def test_truncated_normals_are_distributions_over_one_to_five_users(centre, sigma):
    users, weights = distributions.truncated_normal(centre, sigma)
    assert set(users) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert math.fsum(weights) == pytest.approx(1.0)
    assert min(weights) >= 1 / distributions.SLOTS_AN_INTERVAL
    assert users[int(np.argmax(weights))] == centre


def test_a_wider_distribution_plans_for_a_higher_peak():
    assert max(distributions.truncated_normal(1, 0.3)[0]) < max(distributions.truncated_normal(1, 1.1)[0])


def test_without_traces_the_week_comes_from_the_shipped_profile_and_is_the_same_again(tmp_path):
    first, second = distributions.week(tmp_path), distributions.week(tmp_path)
    assert "profile" in first.source
    assert np.array_equal(first.users, second.users)
    assert first.users.max() == distributions.PEAK_USERS
    for reading in first.readings():
        assert 0.0 < reading.sigma_mean < reading.sigma_max < distributions.PEAK_USERS


def test_missing_measurements_are_named_with_their_source_their_digest_and_the_way_without(tmp_path):
    with pytest.raises(ConfigError) as raised:
        sources.locate(tmp_path, settle_s=12.0)
    text = str(raised.value)
    for wanted in (*sources.SHA256, *sources.SHA256.values(), sources.COMMIT, "--data", "--emulated"):
        assert wanted in text


def test_files_other_than_the_published_ones_are_noticed(tmp_path):
    for name in sources.SHA256:
        (tmp_path / name).write_text("time,cpu,bw,n_users,qos\n0,500,5,1,4\n")
    assert sources.changed_files(sources.locate(tmp_path, settle_s=0.0)) == list(sources.SHA256)


def test_variance_within_cells_is_what_inputs_cannot_explain():
    rows = sources.read(sources.emulated(20)).train
    cells = {tuple(row): [] for row in np.column_stack([rows.users, rows.resources])}
    for *cell, qos in np.column_stack([rows.users, rows.resources, rows.qos]):
        cells[tuple(cell)].append(qos)
    expected = sum(np.var(values) * len(values) for values in cells.values()) / len(rows)
    assert sources.variance_within_cells(rows) == pytest.approx(expected)


def test_an_unknown_approach_is_refused_with_the_known_ones(tmp_path):
    done = CliRunner().invoke(reproduce, ["table1", "--approaches", "microopt,best", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "best: choose of microopt" in done.output


def test_microopt_is_always_among_the_approaches(tmp_path):
    done = CliRunner().invoke(reproduce, ["table1", "--approaches", "peak", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "microopt must be among them" in done.output


def test_tables_show_what_is_missing_as_a_dash_and_keep_it_empty_in_csv(tmp_path):
    assert tables.number(None) == tables.percent(None) == "–"
    tables.write_csv(tmp_path / "t.csv", ("a", "b"), [(None, 1.5)])
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a,b", ",1.5"]
