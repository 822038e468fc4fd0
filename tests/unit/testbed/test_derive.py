import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from microopt.errors import ConfigError
from microopt_testbed import surface, traffic
from microopt_testbed.derive import (
    LEVELS,
    main,
    milan_statistics,
    qos_statistics,
    read_qos_rows,
    to_text,
    without_transients,
)

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("MICROOPT_DATA") or REPOSITORY.parent / "shared" / "data")
ONE, TWO = (1.0, 500.0, 5.0), (1.0, 500.0, 10.0)


def raw(path):
    if not path.is_file():
        pytest.skip(f"{path.name} belongs to others and is not here; name its folder in MICROOPT_DATA")
    return path


def test_shipped_quantiles_are_those_of_the_measured_data():
    rows = read_qos_rows(raw(DATA / "microopt_authors" / "train_dataset.csv"))
    computed, shipped = qos_statistics(rows), surface.load_statistics()
    assert msgspec.structs.replace(computed, cells=[]) == msgspec.structs.replace(shipped, cells=[])
    for ours, theirs in zip(computed.cells, shipped.cells, strict=True):
        assert msgspec.structs.replace(ours, quantiles_mbps=[]) == msgspec.structs.replace(
            theirs, quantiles_mbps=[]
        )
        assert ours.quantiles_mbps == pytest.approx(theirs.quantiles_mbps, abs=1.1e-4)


def test_shipped_profiles_are_those_of_the_measured_traces():
    for square in traffic.SQUARES:
        raw(traffic.trace_path(DATA, square))
    computed, shipped = milan_statistics(DATA), traffic.load_statistics()
    assert (computed.source, computed.method) == (shipped.source, shipped.method)
    for ours, theirs in zip(computed.squares, shipped.squares, strict=True):
        assert ours.square == theirs.square
        assert ours.residual_std == pytest.approx(theirs.residual_std, abs=1.1e-4)
        assert ours.residual_lag1 == pytest.approx(theirs.residual_lag1, abs=1.1e-4)
        assert np.array(ours.weekly) == pytest.approx(np.array(theirs.weekly), abs=1.1e-4)


@pytest.mark.parametrize("statistics", [surface.load_statistics(), traffic.load_statistics()])
def test_shipped_files_name_source_and_licence_and_have_one_row_a_cell_or_day(statistics):
    text = to_text(statistics)
    assert msgspec.json.decode(text, type=type(statistics)) == statistics
    file = "qos_quantiles.json" if isinstance(statistics, surface.QosStatistics) else "milan_profile.json"
    assert (Path(surface.__file__).parent / "data" / file).read_text() == text
    assert statistics.source
    assert statistics.licence
    assert text.count("\n") < 300


def test_the_first_seconds_after_each_change_are_left_out():
    rows = [(float(t), ONE if t < 30 else TWO, float(t)) for t in range(60)]
    assert [row[2] for row in without_transients(rows)] == [*range(12, 30), *range(42, 60)]


def test_a_pause_counts_as_a_change():
    rows = [(float(t), ONE, 1.0) for t in (*range(20), *range(100, 120))]
    assert [row[0] for row in without_transients(rows)] == [*range(12, 20), *range(112, 120)]


def test_no_rows_leave_no_rows():
    assert without_transients([]) == []


def test_quantiles_are_taken_over_what_is_left_and_an_emptied_setting_keeps_its_place():
    steady = [(100.0 + t, ONE, float(t)) for t in range(23)]
    brief = [(200.0 + t, TWO, 9.0) for t in range(3)]
    statistics = qos_statistics(steady + brief)
    assert statistics.transport_bandwidth_mbps == [5.0, 10.0]
    (cell,) = statistics.cells
    assert (cell.users, cell.gnb_cpu_millicores, cell.transport_bandwidth_mbps, cell.count) == (*ONE, 11)
    assert cell.quantiles_mbps == pytest.approx([12.0 + 10.0 * level for level in LEVELS])


def test_rows_are_sorted_and_exact_duplicates_are_read_once(tmp_path):
    path = tmp_path / "rows.csv"
    later, earlier = "2024-05-18 05:27:02.25,4,500,5,2,2.0", "2024-05-18 05:27:01.874000128,4,500,5,2,1.5"
    path.write_text("\n".join(["time,total_bandwidth_usage,cpu,bw,n_users,qos", later, earlier, later, ""]))
    first, second = read_qos_rows(path)
    assert first[1:] == ((2.0, 500.0, 5.0), 1.5)
    assert second[0] - first[0] == pytest.approx(0.376, abs=1e-5)


def test_a_file_without_the_columns_is_refused_by_name(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("time,cpu\n2024-05-18 05:27:02,500\n")
    with pytest.raises(ConfigError, match=r"rows\.csv"):
        read_qos_rows(path)


def test_the_command_says_which_data_are_missing(tmp_path):
    result = CliRunner().invoke(main, ["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "train_dataset.csv" in result.output
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_is_shipped(tmp_path):
    raw(DATA / "microopt_authors" / "train_dataset.csv")
    raw(traffic.trace_path(DATA, traffic.SQUARES[0]))
    result = CliRunner().invoke(main, ["--data", str(DATA), "--out", str(tmp_path)])
    assert result.exit_code == 0
    written = msgspec.json.decode((tmp_path / "qos_quantiles.json").read_bytes(), type=surface.QosStatistics)
    assert [cell.count for cell in written.cells] == [cell.count for cell in surface.load_statistics().cells]
    assert (tmp_path / "milan_profile.json").is_file()
