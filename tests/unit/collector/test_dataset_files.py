import sys
from datetime import UTC, datetime

import pyarrow
import pyarrow.parquet
import pytest

from microopt.errors import ConfigError
from microopt_collector.dataset.files import format_of, require_columns

HEADER, ROW = "time,users,qos", "2026-01-01T00:00:00Z,3,"


def read(path, *wanted, time="time"):
    table = format_of(path).open(path, time)
    return [(line.place, line.cells and list(line.cells)) for line in table.rows(wanted or table.columns)]


@pytest.mark.parametrize(
    "data",
    [
        f"{HEADER}\n{ROW}\n".encode(),
        f"{HEADER}\r\n{ROW}\r\n".encode(),
        f"\ufeff{HEADER}\r\n{ROW}".encode(),
        f"{HEADER}\n{ROW}\n".replace(",", ";").encode(),
        f"{HEADER}\n{ROW}\n".replace(",", "\t").encode(),
        b'"time","users","qos"\n"2026-01-01T00:00:00Z"," 3 ",\n',
    ],
    ids=["plain", "crlf", "bom", "semicolons", "tabs", "quotes"],
)
def test_csv_of_any_usual_form_is_read(data, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    assert read(path) == [("line 2", ["2026-01-01T00:00:00Z", "3", None])]


def test_lines_of_another_length_are_told_and_empty_ones_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}\n1\n\n{ROW},9\n{ROW}\n")
    assert [place for place, cells in read(path) if cells is None] == ["line 2", "line 4"]
    assert read(path, "users")[-1] == ("line 5", ["3"])


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"", "is empty; its first line must name the columns"),
        ("a.csv", "zeit;nutzer;güte\n".encode("latin-1"), "cannot be read as csv in UTF-8"),
        ("a.csv", HEADER.encode("utf-16"), "cannot be read as csv in UTF-8"),
        ("a.parquet", b"PAR1 not at all", "cannot be read as parquet"),
        ("a.parquet", b"", "cannot be read as parquet"),
        ("a.xlsx", b"", "ends in .csv or .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(name, data, said, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=said) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_parquet_without_pyarrow_is_refused_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"pip install 'microopt\[parquet\]', or use a .csv"):
        format_of(tmp_path / "a.parquet")


def test_parquet_of_other_tools_is_read(tmp_path):
    path, nanoseconds = tmp_path / "a.parquet", 1767225600_123456789
    columns = {
        "time": pyarrow.array([nanoseconds], pyarrow.timestamp("ns", tz="Europe/Rome")),
        "naive": pyarrow.array([1767225600], pyarrow.timestamp("s")),
        "users": pyarrow.array([3], pyarrow.int32()),
        "qos": pyarrow.array([None], pyarrow.float32()),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    [(place, [time, naive, users, qos])] = read(path)
    assert place == "row 1"
    assert time == datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert naive == datetime(2026, 1, 1)  # noqa: DTZ001
    assert (users, qos) == (3, None)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("ues", "no column 'ues' among 'time', 'qos', 'qos'"), ("qos", "two columns are called 'qos'")],
)
def test_a_column_that_is_not_there_or_twice_is_named(wanted, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        require_columns(tmp_path / "a.csv", ["time", "qos", "qos"], [wanted])
