import numpy as np
import pytest

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.dataset import dataset_from_arrays, split
from microopt_optimizer.slice_model.dataset_csv import CleaningReport, Columns, ResourceColumn, read_csv

HEADER = "time,total_bandwidth_usage,cpu,bw,n_users,qos"


def line(second, cpu=1000, bw=5, users=2, qos=1.5):
    time = f"2024-05-18 05:{second // 60:02d}:{second % 60:02d}.874000128"
    return f"{time},{users},{cpu}.0,{bw}.0,{users}.0,{qos}"


@pytest.fixture
def csv_file(tmp_path):
    def write(*lines, header=HEADER):
        path = tmp_path / "measured.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write


def sweep(rows=400, **other):
    rng = np.random.default_rng(0)
    resources = rng.choice([1.0, 2.0], size=(rows, 2))
    return dataset_from_arrays(
        np.ones(rows), resources, rng.uniform(size=rows), names=("a", "b"), units=("x", "y"), **other
    )


def grid():
    """Return 16 cells of 50 rows."""
    cells = np.array([(a, b) for a in range(1, 5) for b in range(1, 5)], dtype=float)
    resources = np.repeat(cells, 50, axis=0)
    return dataset_from_arrays(
        np.ones(len(resources)), resources, np.arange(800.0), names=("a", "b"), units=("x", "y")
    )


def test_columns_become_named_resources_with_units(csv_file):
    data, _ = read_csv(csv_file(*(line(second) for second in range(20))))
    assert data.resource_names == ("gnb_cpu", "transport_bandwidth")
    assert data.resource_units == ("millicores", "Mbit/s")
    assert data.resources[0].tolist() == [1000.0, 5.0]
    assert (data.users[0], data.qos[0]) == (2.0, 1.5)


def test_the_first_seconds_after_each_change_of_resources_are_dropped(csv_file):
    lines = [line(s, bw=5) for s in range(30)] + [line(s, bw=10) for s in range(30, 60)]
    data, report = read_csv(csv_file(*lines))
    assert report.unsettled == 24
    start = data.time_s[0]
    assert (data.time_s - start).tolist() == [*range(18), *range(30, 48)]


def test_a_change_of_users_alone_needs_no_settling(csv_file):
    lines = [line(s, users=1 + s % 5) for s in range(60)]
    assert read_csv(csv_file(*lines))[1].unsettled == 12


def test_rows_after_a_gap_are_settled_again(csv_file):
    lines = [line(s) for s in [*range(30), *range(300, 330)]]
    assert read_csv(csv_file(*lines))[1].unsettled == 24


def test_duplicates_and_impossible_rows_are_dropped_and_counted(csv_file):
    lines = [line(s) for s in range(20)]
    bad = [line(20, qos="nan"), line(21, qos=-1.0), line(22, qos="inf"), line(23).rsplit(",", 1)[0] + ","]
    _, report = read_csv(csv_file(*lines, lines[3], lines[3], *bad), settle_s=0.0)
    assert report == CleaningReport(
        rows_read=26,
        duplicates=2,
        invalid=4,
        unsettled=0,
        kept=20,
        first_invalid="line 24, column 'qos': nan",
    )
    assert "4 invalid (first: line 24, column 'qos': nan)" in report.dropped


def test_rows_are_sorted_by_time(csv_file):
    data, _ = read_csv(csv_file(*(line(s, users=s) for s in (30, 10, 20))), settle_s=0.0)
    assert data.users.tolist() == [10.0, 20.0, 30.0]


def test_other_columns_can_be_mapped_and_times_left_out(csv_file):
    columns = Columns(
        users="ue", qos="lat", time=None, resources={"prb": ResourceColumn("p", "PRB")}, higher_is_better=False
    )
    data, report = read_csv(csv_file("1,10,7", "1,10,7", header="p,ue,lat"), columns)
    assert (report.kept, report.duplicates, data.time_s) == (2, 0, None)
    assert (data.resource_names, data.higher_is_better) == (("prb",), False)


@pytest.mark.parametrize(
    ("header", "text", "message"),
    [
        (HEADER.replace("bw", "band"), line(0), r"line 1: no column 'bw'"),
        (HEADER, line(0).replace("1000.0", "lots"), r"line 3, column 'cpu': 'lots' is not a number"),
        (HEADER, line(0).replace("2024-05-18", "yesterday"), r"line 3, column 'time': .* is not a time"),
        (HEADER, line(0) + ",1", r"line 3: 7 values, but the header names 6"),
        (HEADER.replace("total_bandwidth_usage", "bw"), line(0), r"line 1: 2 columns are called 'bw'; rename one"),
    ],
)
def test_an_error_names_file_line_and_column(csv_file, header, text, message):
    with pytest.raises(ConfigError, match=rf"measured\.csv, {message}"):
        read_csv(csv_file(line(1), text, header=header))


def test_a_file_that_is_missing_empty_or_all_unsettled_is_refused(tmp_path, csv_file):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="is empty; its first line must name the columns"):
        read_csv(csv_file(header=""))
    with pytest.raises(ConfigError, match="no rows"):
        read_csv(csv_file())
    with pytest.raises(ConfigError, match="none of its 1 rows is left"):
        read_csv(csv_file(line(0)))


def test_data_in_memory_of_the_wrong_shape_or_sign_is_refused():
    with pytest.raises(ConfigError, match=r"qos has shape \(3,\), must be \(2,\)"):
        dataset_from_arrays([1, 2], [[1], [2]], [1, 2, 3], names=["a"], units=["x"])
    with pytest.raises(ConfigError, match="users has values that are negative or not finite"):
        dataset_from_arrays([1, -2], [[1], [2]], [1, 2], names=["a"], units=["x"])
    with pytest.raises(ConfigError, match="distinct"):
        dataset_from_arrays([1], [[1, 2]], [1], names=["a", "a"], units=["x", "x"])


def test_the_split_is_the_same_for_a_seed_and_keeps_every_row():
    data = sweep()
    parts, again, other = split(data, 0.25, 1), split(data, 0.25, 1), split(data, 0.25, 2)
    assert parts[0].qos.tolist() == again[0].qos.tolist()
    assert parts[1].qos.tolist() != other[1].qos.tolist()
    assert sorted([*parts[0].qos, *parts[1].qos]) == sorted(data.qos)
    assert 0.15 <= len(parts[1]) / len(data) <= 0.25


def test_neighbours_in_time_stay_on_one_side_of_the_split():
    time_s = np.arange(400.0)
    data = dataset_from_arrays(np.ones(400), np.ones((400, 1)), time_s, names=["a"], units=["x"], time_s=time_s)
    _, held_out = split(data, 0.3, 0)
    blocks, sizes = np.unique(held_out.time_s // 10, return_counts=True)
    assert sizes.tolist() == [10] * len(blocks)
    assert len(blocks) == 12


def test_whole_cells_can_be_held_out_instead():
    data = grid()
    rows, held_out = split(data, 0.25, 0, by="cells")
    cells = [{tuple(cell) for cell in part.resources} for part in (rows, held_out)]
    assert not cells[0] & cells[1]
    assert (len(cells[1]), len(held_out)) == (4, 200)
    assert split(data, 0.25, 0, by="cells")[1].qos.tolist() == held_out.qos.tolist()
    assert split(data, 0.25, 1, by="cells")[1].qos.tolist() != held_out.qos.tolist()


def test_blocks_of_time_hold_out_rows_of_cells_that_are_trained_on():
    rows, held_out = split(grid(), 0.25, 0)
    cells = [{tuple(cell) for cell in part.resources} for part in (rows, held_out)]
    assert cells[1] <= cells[0]


def test_one_cell_cannot_be_split_by_cells():
    data = dataset_from_arrays(np.ones(40), np.ones((40, 1)), np.arange(40.0), names=["a"], units=["x"])
    with pytest.raises(ConfigError, match="more than one cell"):
        split(data, 0.25, 0, by="cells")
    assert len(split(data, 0.0, 0, by="cells")[0]) == 40


def test_the_digest_knows_values_and_units():
    assert sweep().sha256() == sweep().sha256()
    assert sweep().sha256() != sweep(399).sha256()
    assert sweep().sha256() != sweep(qos_unit="ms").sha256()
