"""The paper's numbers are brought to a machine's size, and measurements are kept cell by cell."""

import pytest

from microopt.errors import ConfigError
from microopt_optimizer.slice_model import train_file
from microopt_optimizer.slice_model.dataset_csv import read_csv
from microopt_testbed.live import scale as scales
from microopt_testbed.live.collect import grid
from microopt_testbed.live.knobs import MIN_MILLICORES
from microopt_testbed.live.loop_plan import SLICES, LoopPlan
from microopt_testbed.live.scale import Scale, fitted
from microopt_testbed.live.sweep_file import TRAIN_FILE, Cell, Sample, SweepFile

HALF = Scale(factor=0.5, millicores_per_mbps=4.0)


def test_half_of_what_a_machine_carries_is_the_papers_most():
    assert fitted(41.0, 10.0, 39.4) == Scale(factor=0.5, millicores_per_mbps=3.9)
    assert fitted(31.9, 5.0, 63.0) == Scale(factor=0.35, millicores_per_mbps=13.0)


def test_a_machine_that_carries_next_to_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"carries 3\.0 Mbit/s a slice"):
        fitted(3.0, 3.0, 10.0)
    with pytest.raises(ConfigError, match=r"0\.0 at 60 millicores"):
        fitted(40.0, 0.0, 60.0)


def test_bandwidth_cpu_and_thresholds_keep_the_papers_proportions():
    assert HALF.bandwidths_mbps == (2.5, 5.0, 7.5, 10.0, 12.5, 15.0, 20.0)
    assert HALF.cpus_millicores == (20.0, 30.0, 40.0, 50.0, 70.0, 100.0, 140.0, 200.0)
    assert [sla.qos_threshold for sla in HALF.slas[::3]] == [1.5, 2.0, 2.5]
    assert HALF.peak.qos_threshold == 2.5
    assert HALF.peak.users == 5
    resources = HALF.resources(2)
    assert resources["transport_bandwidth"].weight * 25.0 == pytest.approx(1.0)  # as 50 Mbit/s in the paper
    assert resources["gnb_cpu"].weight * 225.0 == pytest.approx(1.0)
    assert resources["gnb_cpu"].capacity == 2 * HALF.bounds["gnb_cpu"].ceiling


def test_no_cpu_limit_is_below_what_the_kernel_takes():
    tiny = Scale(factor=0.1, millicores_per_mbps=4.0)
    assert min(tiny.cpus_millicores) == MIN_MILLICORES
    assert len(set(tiny.cpus_millicores)) == len(tiny.cpus_millicores)


def test_a_scale_is_kept_and_what_is_none_is_refused(tmp_path):
    file = tmp_path / "scale.json"
    assert scales.load(file) is None
    scales.save(HALF, file)
    assert scales.load(file) == HALF
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r"scale\.json.*remove it"):
        scales.load(file)


def test_a_grid_has_every_combination_once():
    cells = grid(HALF)
    assert len(set(cells)) == len(cells) == 7 * 8 * 5
    assert len(grid(HALF, every=2)) == 4 * 4 * 3


def test_a_sweep_that_is_taken_up_again_knows_what_it_has(tmp_path):
    file, cell = tmp_path / "data.csv", Cell(2.5, 20.0, 3)
    SweepFile(file).append(cell, [Sample(1000.0, 0.5), Sample(1001.0, 0.75)])
    again = SweepFile(file)
    assert again.rows == {cell: 2}
    again.append(Cell(5.0, 20.0, 1), [Sample(1010.0, 3.25)])
    (tmp_path / "train.yaml").write_text(TRAIN_FILE)
    config = train_file.read(tmp_path / "train.yaml")
    rows, report = read_csv(file, config.columns, settle_s=config.settle_s)
    assert report.kept == 3
    assert rows.resource_names == ("gnb_cpu", "transport_bandwidth")
    assert rows.qos.tolist() == [0.5, 0.75, 3.25]
    assert rows.resources.tolist() == [[20.0, 2.5], [20.0, 2.5], [20.0, 5.0]]
    assert file.read_text().splitlines()[1] == "1000.000,1.5000,20,2.5,3,0.5000"


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    file, cell = tmp_path / "data.csv", Cell(2.5, 20.0, 3)
    SweepFile(file).append(cell, [Sample(1000.0, 0.5)])
    whole = file.read_text()
    file.write_text(whole + "1001.000,1.5000,20,2.5,3,0.5")
    assert SweepFile(file).rows == {cell: 1}
    assert file.read_text() == whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "not those of a live sweep"),
        ("time,total_bandwidth_usage,cpu,bw,n_users,qos\n1,2,x,4,5,6\n", "line 2"),
        ("time,total_bandwidth_usage,cpu,bw,n_users,qos\n1,2,3\n", "line 2"),
    ],
)
def test_another_file_of_that_name_is_left_alone(tmp_path, text, said):
    file = tmp_path / "data.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        SweepFile(file)
    assert file.read_text() == text


def test_every_pair_of_thresholds_is_played_by_some_slice():
    plan = LoopPlan(scale=HALF, slas=tuple(HALF.slas))
    assert len(plan.phases) == 5
    assert all(phase.keys() == set(SLICES) for phase in plan.phases)
    played = [sla for phase in plan.phases for sla in phase.values()]
    assert played == [*HALF.slas, HALF.slas[0]]
    assert plan.desired({}).slices[0].sla == HALF.slas[0]
