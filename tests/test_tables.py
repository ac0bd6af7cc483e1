"""Files in and out: nothing is lost on the way, and what cannot be meant is refused with its cure."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repstream.errors import RecordingError
from repstream.recordings.axes import AXES
from repstream.recordings.recording import Recording
from repstream.recordings.tables import SourceFormat, read_recording, write_recording, write_table
from tests.support import HEADER, failure, make_recording, rows_of, success, write_csv

ENDINGS = [".csv", ".parquet"]
REPAIR = "where a finite number is needed; remove the row (a gap of up to 0.2 s is interpolated) or repair it"
SORT = "sort the rows by time, remove repeated ones, or split the file into one a session"
COMPLETE = "check that the file is complete and of the format its ending names"

any_double = st.floats(allow_nan=False, allow_infinity=False)


def converted(source: Path, *options: str, to: str = "out.parquet") -> Recording:
    destination = source.with_name(to)
    success("recordings", "convert", source, destination, *options)
    return read_recording(destination)


def refused(source: Path, *options: str) -> str:
    """What `convert` says against a file; nothing may have been written."""
    destination = source.with_name("never.parquet")
    said = failure("recordings", "convert", source, destination, "--strict", *options)
    assert not destination.exists()
    return said


# Nothing is lost


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@given(values=st.lists(st.tuples(*[any_double] * 6), min_size=2, max_size=5), first=st.floats(0, 1e6))
@settings(max_examples=40, deadline=None)
def test_every_bit_of_a_recording_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, ending: str, values: list[tuple[float, ...]], first: float
) -> None:
    file = tmp_path_factory.mktemp("bits") / f"r{ending}"
    time_s = first + np.arange(len(values)) / 50
    written = make_recording(len(values), time_s=time_s, values=np.array(values))
    write_recording(written, file)
    back = read_recording(file)
    assert back.time_s.tobytes() == written.time_s.tobytes()
    assert back.values.tobytes() == written.values.tobytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_labels_and_everything_that_is_known_of_a_recording_come_back(tmp_path: Path, ending: str) -> None:
    labels = ["Rest", "upright row", 'with "quotes", a comma', "Übung"]
    written = make_recording(4, name="r", subject="ümit", side="right", labels=labels, rate_hz=33.5)
    write_recording(written, tmp_path / f"other{ending}")
    back = read_recording(tmp_path / f"other{ending}")
    assert back.labels is not None
    assert back.labels.tolist() == labels
    assert (back.subject, back.session, back.device) == ("ümit", "r-session", "r-device")
    assert (back.side, back.source, back.rate_hz) == ("right", "file", 33.5)
    assert (back.name, back.path) == ("other", tmp_path / f"other{ending}")


def test_what_is_known_of_a_csv_stands_in_the_json_beside_it(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "raw.csv", rows_of(make_recording(100)))
    back = converted(source, "--subject", "s1", "--device", "d1", "--side", "left", to="out.csv")
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "v": 1,
        "subject": "s1",
        "session": "raw",
        "device": "d1",
        "source": "file",
        "rate_hz": 50.0,
        "side": "left",
    }
    assert (back.subject, back.session, back.device, back.side) == ("s1", "raw", "d1", "left")


def test_an_option_overrides_what_the_file_knows(tmp_path: Path) -> None:
    write_recording(make_recording(100, name="r", subject="before", side="left"), tmp_path / "r.parquet")
    back = converted(tmp_path / "r.parquet", "--subject", "after", "--session", "s2")
    assert (back.subject, back.session, back.device, back.side) == ("after", "s2", "r-device", "left")


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_table({"index": np.empty(0, np.int64), "x": np.empty(0)}, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == '"index","x"\n'


# Files of the user's own


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    original = make_recording(100)
    theirs = ["timestamp", "ax", "ay", "az", "wx", "wy", "wz", "what"]
    rows = [[*row, "Rest"] for row in rows_of(original)]
    mapping = [f"--column={mine}={name}" for mine, name in zip((*HEADER, "label"), theirs, strict=True)]
    back = converted(write_csv(tmp_path / "raw.csv", rows, theirs), *mapping)
    assert back.values.tobytes() == original.values.tobytes()
    assert back.labels is not None
    assert set(back.labels.tolist()) == {"Rest"}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_seen_by_the_header(tmp_path: Path, delimiter: str) -> None:
    original = make_recording(50)
    file = write_csv(tmp_path / "raw.csv", rows_of(original))
    file.write_text(file.read_text().replace(",", delimiter))
    assert converted(file).values.tobytes() == original.values.tobytes()


def test_further_columns_and_spaces_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    original = make_recording(50)
    rows = [[f" {cell} " for cell in row] + ["anything"] for row in rows_of(original)]
    file = write_csv(tmp_path / "raw.csv", rows, [*HEADER, "notes"])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert converted(file).values.tobytes() == original.values.tobytes()


def test_accelerations_in_metres_per_second_squared_become_g(tmp_path: Path) -> None:
    rows = [[repr(i / 50), "9.80665", "0", "-19.6133", "1", "2", "3"] for i in range(10)]
    back = converted(write_csv(tmp_path / "raw.csv", rows), "--accel-unit", "m/s2")
    np.testing.assert_allclose(back.values, [[1.0, 0.0, -2.0, 1.0, 2.0, 3.0]] * 10, rtol=1e-15)


def test_angular_rates_in_radians_become_degrees(tmp_path: Path) -> None:
    rows = [[repr(i / 50), "1", "0", "0", "3.141592653589793", "-1.5707963267948966", "0"] for i in range(10)]
    back = converted(write_csv(tmp_path / "raw.csv", rows), "--gyro-unit", "rad/s")
    np.testing.assert_allclose(back.values, [[1.0, 0.0, 0.0, 180.0, -90.0, 0.0]] * 10, rtol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("epoch_s", [0, 1_763_700_000])
def test_every_time_unit_gives_the_same_clock_and_an_epoch_starts_at_0(
    tmp_path: Path, unit: str, per_second: int, ending: str, epoch_s: int
) -> None:
    # One sample a second would be too slow, so whole seconds are written as decimals: 0.00, 0.02, …
    n = 100
    if unit == "s":
        stamps = [f"{epoch_s + i / 50:.2f}" for i in range(n)]
        column = pa.array([float(s) for s in stamps])
    else:
        whole = [epoch_s * per_second + i * per_second // 50 for i in range(n)]
        stamps = [str(w) for w in whole]
        column = pa.array(whole)
    values = make_recording(n).values
    if ending == ".csv":
        rows = [[stamp, *(repr(float(x)) for x in row)] for stamp, row in zip(stamps, values, strict=True)]
        source = write_csv(tmp_path / "raw.csv", rows)
    else:
        source = tmp_path / "raw.parquet"
        pq.write_table(pa.table({"time": column, **{a: values[:, i] for i, a in enumerate(AXES)}}), source)
    back = converted(source, "--time-unit", unit)
    assert back.time_s[0] == 0.0
    assert back.rate_hz == 50.0
    assert np.array_equal(back.times_us, 20_000 * np.arange(n))
    assert back.provenance == ({"started_at": "2025-11-21T04:40:00.000000+00:00"} if epoch_s else {})
    if unit != "s" or not epoch_s:
        np.testing.assert_allclose(back.time_s, np.arange(n) / 50, rtol=1e-15)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_timestamps_need_no_unit(tmp_path: Path, unit: str) -> None:
    began = datetime.datetime(2026, 1, 5, 12, 30, tzinfo=datetime.UTC)
    stamps = [began + datetime.timedelta(milliseconds=20 * i) for i in range(60)]
    values = make_recording(60).values
    table = pa.table(
        {"time": pa.array(stamps, pa.timestamp(unit, "UTC")), **{a: values[:, i] for i, a in enumerate(AXES)}}
    )
    pq.write_table(table, tmp_path / "raw.parquet")
    back = converted(tmp_path / "raw.parquet")
    np.testing.assert_allclose(back.time_s, np.arange(60) / 50, rtol=1e-15, atol=0)


def test_a_time_into_a_recording_is_left_where_it_is(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "raw.csv", rows_of(make_recording(50, time_s=7.5 + np.arange(50) / 50)))
    assert converted(file).time_s[0] == 7.5


@pytest.mark.parametrize("rate_hz", [10, 25, 100, 400])
def test_the_rate_comes_from_the_clock(tmp_path: Path, rate_hz: int) -> None:
    file = write_csv(tmp_path / "raw.csv", rows_of(make_recording(100, rate_hz=rate_hz)))
    assert converted(file).rate_hz == rate_hz


def test_numbers_may_be_written_whole_decimal_or_with_exponents(tmp_path: Path) -> None:
    rows = [[repr(i / 50), "1", "-0", "2", "1e-3", "3E2", ".5"] for i in range(10)]
    back = converted(write_csv(tmp_path / "raw.csv", rows))
    assert back.values[0].tolist() == [1.0, 0.0, 2.0, 0.001, 300.0, 0.5]


def test_what_real_files_do_is_repaired_and_said(tmp_path: Path) -> None:
    original = make_recording(60, labels=["Rest"] * 60)
    rows = [[*row, "Rest"] for row in rows_of(original)]
    rows[0][2] = "NaN"
    rows[20][HEADER.index("gyro_z")] = ""
    rows[30], rows[31] = rows[31], rows[30]
    rows[40][0] = rows[39][0]
    rows[50][-1] = ""
    file = write_csv(tmp_path / "raw.csv", rows, [*HEADER, "label"])
    outcome = success("recordings", "convert", file, tmp_path / "out.parquet", "--json")
    counted = {"empty_rows": 2, "sorted_rows": 2, "spread_rows": 1, "labels_filled": 1}
    assert json.loads(outcome.out)["repairs"] == counted
    assert outcome.err == (
        "repaired: 2 rows without all six numbers dropped, 1 sample without a label called Unlabelled, "
        "2 rows out of order sorted, 1 repeated time spread\n"
    )
    back = read_recording(tmp_path / "out.parquet")
    keep = [i for i in range(60) if i not in (0, 20)]
    assert back.values.tobytes() == original.values[keep].tobytes()
    assert back.time_s[38] == pytest.approx(0.8)
    assert back.labels is not None
    assert back.labels.tolist().count("Unlabelled") == 1
    assert "row 1, column 'accel_y': found NaN" in refused(file)


def test_a_label_can_be_given_for_a_whole_file(tmp_path: Path) -> None:
    back = converted(write_csv(tmp_path / "raw.csv", rows_of(make_recording(60))), "--label", "Rest")
    assert back.labels is not None
    assert set(back.labels.tolist()) == {"Rest"}


# Refusals


def with_cell(file: Path, row: int, column: str, cell: str, n: int = 60) -> Path:
    """A good file but for one cell; row 1 is the first row of data."""
    rows = rows_of(make_recording(n))
    rows[row - 1][HEADER.index(column)] = cell
    return write_csv(file, rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "cell", "found"),
    [
        ("accel_y", "NaN", "NaN"),
        ("accel_y", "nan", "nan"),
        ("gyro_z", "inf", "inf"),
        ("gyro_z", "-inf", "-inf"),
        ("accel_x", "", "empty"),
        ("accel_x", "fast", "'fast'"),
        ("accel_x", "1,5", None),
        ("time", "", "empty"),
        ("time", "noon", "'noon'"),
        ("time", "nan", "nan"),
    ],
)
def test_a_cell_that_is_no_finite_number_is_refused_with_its_row_and_cure(
    tmp_path: Path, column: str, cell: str, found: str | None
) -> None:
    file = with_cell(tmp_path / "raw.csv", 17, column, cell)
    said = refused(file)
    if found is None:
        assert said.startswith(f"{file}: not a readable CSV table (CSV parse error: ")
        assert "Expected 7 columns, got 8" in said
    else:
        assert said == f"{file}: row 17, column '{column}': found {found} {REPAIR}"


@pytest.mark.parametrize(("bad", "found"), [(None, "empty"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_parquet_values_that_are_missing_or_not_finite_are_refused_too(
    tmp_path: Path, bad: float | None, found: str
) -> None:
    columns: dict[str, list[float | None]] = {name: [i / 50 for i in range(20)] for name in HEADER}
    columns["gyro_x"][7] = bad
    file = tmp_path / "raw.parquet"
    pq.write_table(pa.table(columns), file)
    assert refused(file) == f"{file}: row 8, column 'gyro_x': found {found} {REPAIR}"


def test_a_wrong_cell_is_named_by_the_files_own_column(tmp_path: Path) -> None:
    rows = rows_of(make_recording(20))
    rows[4][1] = "x"
    file = write_csv(tmp_path / "raw.csv", rows, ["time", "ax", *AXES[1:]])
    assert refused(file, "--column", "accel_x=ax") == f"{file}: row 5, column 'ax': found 'x' {REPAIR}"


@pytest.mark.parametrize(
    ("cell", "does"),
    [("0.19", "runs backwards (0.200000 s, then 0.190000 s)"), ("0.2", "stands still (0.200000 s, then 0.200000 s)")],
)
def test_a_clock_that_does_not_advance_is_refused_with_its_row(tmp_path: Path, cell: str, does: str) -> None:
    file = with_cell(tmp_path / "raw.csv", 12, "time", cell)
    assert refused(file) == f"{file}: row 12: the clock {does}; {SORT}"


def test_a_wrong_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "raw.csv", rows_of(make_recording(20)), ["t", *AXES])
    there = "'t', 'accel_x', 'accel_y', 'accel_z', 'gyro_x', 'gyro_y', 'gyro_z'"
    cure = "map it with --column time=NAME"
    assert refused(file) == f"{file}: there is no column 'time' (for time); it has {there}; {cure}"
    said = refused(file, "--column", "time=clock")
    assert said == f"{file}: there is no column 'clock' (for time); it has {there}; {cure}"
    said = refused(file, "--column", "time=t", "--column", "label=what")
    assert said.startswith(f"{file}: there is no column 'what' (for label); ")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    rows = [[*row, "0"] for row in rows_of(make_recording(20))]
    file = write_csv(tmp_path / "raw.csv", rows, [*HEADER, "accel_x"])
    assert refused(file) == f"{file}: duplicate column 'accel_x'; rename all but one in the file's header"


def test_an_empty_label_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = [[*row, "Rest"] for row in rows_of(make_recording(20))]
    rows[9][-1] = ""
    file = write_csv(tmp_path / "raw.csv", rows, [*HEADER, "label"])
    assert refused(file) == (
        f"{file}: row 10, column 'label': an empty label; "
        "name the activity (for example 'Rest'), or leave the column out"
    )


def test_files_that_hold_no_recording_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    assert refused(empty) == f"{empty}: the file is empty; record something, or leave it out"
    no_rows = write_csv(tmp_path / "head.csv", [])
    assert refused(no_rows) == f"{no_rows}: it has no rows; record something, or leave the file out"
    one_row = write_csv(tmp_path / "one.csv", rows_of(make_recording(1)))
    assert refused(one_row) == f"{one_row}: one row has no sampling rate; a recording needs two or more"
    missing = tmp_path / "missing.csv"
    assert refused(missing) == f"{missing}: there is no such file"
    other = tmp_path / "recording.mat"
    other.write_text("x")
    assert refused(other) == f"{other}: expected a file ending in .csv or .parquet"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("r.parquet", b"time,accel_x\n0,1\n", "not a readable PARQUET table (Parquet magic bytes not found in footer."),
        ("r.parquet", b"PAR1", "not a readable PARQUET table ("),
        ("r.csv", b"PAR1\x00\x15\x04\x15\x10\n\x00\xff\x00\x01PAR1", "not a readable CSV table ("),
        ("r.csv", b"time,accel_x\n0,1\n1\n", "not a readable CSV table (CSV parse error: Expected 2 columns, got 1"),
        ("r.csv", b"time,accel_x\n0,\xff\xfe\n", "not a readable CSV table (In CSV column #1: "),
        ("r.csv", b"\n\n", "not a readable CSV table ("),
    ],
)
def test_a_file_of_another_format_or_a_damaged_one_is_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    said = refused(file)
    assert said.startswith(f"{file}: {reason}")
    assert said.endswith(COMPLETE)


def test_a_parquet_file_cut_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_recording(make_recording(500), file)
    whole = file.read_bytes()
    for kept in (len(whole) - 1, len(whole) // 2, 10):
        file.write_bytes(whole[:kept])
        assert refused(file).startswith(f"{file}: not a readable PARQUET table (")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "its metadata is not a JSON object (found list)"),
        ("{", "its metadata is not a JSON object ("),
        ('{"side": "up"}', "side is 'up'; it is one of left, right, unknown"),
        ('{"rate_hz": "fast"}', "rate_hz is 'fast' in its metadata; it is a number of Hz"),
        ('{"rate_hz": 200}', "the clock ticks at 50 Hz, but the rate given is 200 Hz; "),
    ],
)
def test_wrong_metadata_beside_a_csv_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = write_csv(tmp_path / "r.csv", rows_of(make_recording(60)))
    (tmp_path / "r.json").write_text(text)
    assert refused(file).startswith(f"{file}: {reason}")


@pytest.mark.parametrize("rate_hz", [5, 500])
def test_a_clock_outside_10_to_400_hz_is_refused_with_what_may_be_meant(tmp_path: Path, rate_hz: int) -> None:
    time_s = np.arange(60) / rate_hz
    file = write_csv(tmp_path / "r.csv", rows_of(make_recording(60, time_s=time_s)))
    assert refused(file) == (
        f"{file}: the clock ticks at {rate_hz} Hz, outside 10–400 Hz; "
        "is the unit of its time column right (--time-unit s, ms, us or ns)?"
    )


def test_a_time_unit_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    rows = [[str(1_763_700_000_000 + 20 * i), *row[1:]] for i, row in enumerate(rows_of(make_recording(60)))]
    file = write_csv(tmp_path / "r.csv", rows)
    assert refused(file).startswith(f"{file}: the clock ticks at 0.05 Hz, outside 10–400 Hz; ")
    assert converted(file, "--time-unit", "ms").rate_hz == 50.0


@pytest.mark.parametrize("rate_hz", ["0", "-50", "nan", "inf", "20", "120"])
def test_a_rate_that_the_clock_contradicts_is_refused(tmp_path: Path, rate_hz: str) -> None:
    file = write_csv(tmp_path / "r.csv", rows_of(make_recording(60)))
    assert refused(file, "--rate-hz", rate_hz) == (
        f"{file}: the clock ticks at 50 Hz, but the rate given is {rate_hz} Hz; "
        "check the unit of the time column (--time-unit) and rate_hz"
    )


def test_accelerations_that_can_only_be_metres_per_second_squared_are_refused(tmp_path: Path) -> None:
    rows = [[repr(i / 50), "0", "0", "9.81", "1", "2", "3"] for i in range(10)]
    file = write_csv(tmp_path / "r.csv", rows)
    assert refused(file) == (
        f"{file}: the median acceleration is 9.8 g, read as g; a wrist at rest shows 1 g; "
        "if it is in m/s², give --accel-unit m/s2"
    )


def test_a_destination_that_is_no_table_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "r.csv", rows_of(make_recording(60)))
    said = failure("recordings", "convert", file, tmp_path / "out.txt")
    assert said == f"{tmp_path / 'out.txt'}: the table must end in .csv or .parquet"
    inside = file / "out.csv"
    assert failure("recordings", "convert", file, inside).startswith(f"{inside}: cannot be written (")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"time_unit": "h"}, "'h' is no time unit; choose one of s, ms, us, ns"),
        ({"accel_unit": "kg"}, "'kg' is no acceleration unit; choose one of g, m/s2"),
        ({"gyro_unit": "rpm"}, "'rpm' is no angular rate unit; choose one of deg/s, rad/s"),
        (
            {"columns": {"x": "y"}},
            "there is no canonical column 'x' to map onto; they are "
            "time, accel_x, accel_y, accel_z, gyro_x, gyro_y, gyro_z, label",
        ),
    ],
)
def test_an_unknown_unit_or_column_is_refused_with_those_there_are(fields: dict[str, str], text: str) -> None:
    with pytest.raises(RecordingError) as error:
        SourceFormat(**fields)  # type: ignore[arg-type]
    assert str(error.value) == text
