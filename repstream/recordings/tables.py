"""Reading and writing tables, CSV or Parquet by their ending; imports recording and errors.

`read_recording` reads the canonical form and, with a `Mapping`, anyone's own: it checks every
value and names file, row (1 is the first row of data), value and cure where it refuses.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from repstream.arrays import AnyArray, FloatArray, IntArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.axes import AXES, MAX_RATE_HZ, MIN_RATE_HZ, SIDES
from repstream.recordings.imports.clock import MISSING_NS, UNLABELLED, clean
from repstream.recordings.imports.raw import Stream
from repstream.recordings.imports.units import ACCEL_SCALE, GYRO_SCALE
from repstream.recordings.recording import FIRST_EPOCH_S, Recording, check_clock, nominal_rate_hz, started_at

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
ACCEL_UNITS = {unit: ACCEL_SCALE[unit] for unit in ("g", "m/s2")}
GYRO_UNITS = {unit: GYRO_SCALE[unit] for unit in ("deg/s", "rad/s")}
ENDINGS = (".csv", ".parquet")

MISSING_TEXTS = ("nan", "NaN", "NAN", "inf", "-inf", "null", "NULL", "None", "NA", "N/A")
"""What stands for a number that is not there; so does an empty cell."""

METADATA_KEY = b"repstream"
"""Of a Parquet file's metadata: what a recording is beside its samples, as JSON."""
_METADATA_FIELDS = ("subject", "session", "device", "source", "rate_hz", "side", "provenance")
# Nobody's wrist is under a median of 4 g, but gravity in m/s² is 9.8.
_IMPLAUSIBLE_MEDIAN_G = 4.0


@dataclass(frozen=True)
class SourceFormat:
    """How a file that is not canonical differs from it.

    Attributes
    ----------
    columns : mapping
        Canonical name to the file's name, where they differ.
    time_unit, accel_unit, gyro_unit : str
        Keys of `TIME_UNITS`, `ACCEL_UNITS`, `GYRO_UNITS`.
    metadata : mapping
        Values for subject, session, device, side, rate_hz that override the file's own.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: str = "s"
    accel_unit: str = "g"
    gyro_unit: str = "deg/s"
    metadata: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        canonical = ("time", *AXES, "label")
        for name in self.columns:
            if name not in canonical:
                raise RecordingError(
                    f"there is no canonical column {name!r} to map onto; they are {', '.join(canonical)}"
                )
        for what, unit, known in (
            ("time unit", self.time_unit, TIME_UNITS),
            ("acceleration unit", self.accel_unit, ACCEL_UNITS),
            ("angular rate unit", self.gyro_unit, GYRO_UNITS),
        ):
            if unit not in known:
                raise RecordingError(f"{unit!r} is no {what}; choose one of {', '.join(known)}")


def read_recording(
    path: Path | str, source: SourceFormat | None = None, repairs: Counter[str] | None = None
) -> Recording:
    """Read one recording from a CSV or Parquet file.

    Parameters
    ----------
    path : Path or str
    source : SourceFormat, optional
        None reads the canonical form.
    repairs : Counter, optional
        Where given, empty cells, repeated times, rows out of order and missing labels are repaired and counted here
        (see `repstream.recordings.imports.clock.clean`); else they are refused.

    Raises
    ------
    RecordingError
        Naming file, row, value and cure.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import repstream
    >>> (recording,) = repstream.load_recordings("spar/s08-left-ROW-1")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     repstream.write_recording(recording, pathlib.Path(folder, "row.parquet"))
    ...     read = repstream.read_recording(pathlib.Path(folder, "row.parquet"))
    >>> read.device, read.side, read.n_samples == recording.n_samples
    ('spar-s08-left', 'left', True)
    """
    path = Path(path)
    foreign = source is not None
    source = source or SourceFormat()
    table, metadata = _read_table(path, source)
    metadata.update({k: v for k, v in source.metadata.items() if v is not None})
    if not table.num_rows:
        raise RecordingError("it has no rows; record something, or leave the file out", where=path)
    mend = repairs is not None
    time_s, first_us = _time(table, path, source, mend)
    values = np.empty((table.num_rows, 6))
    for i, axis in enumerate(AXES):
        factor = ACCEL_UNITS[source.accel_unit] if i < 3 else GYRO_UNITS[source.gyro_unit]
        values[:, i] = _numbers(table, path, source.columns.get(axis, axis), mend) * factor
    labels = _labels(table, path, source, mend)
    if repairs is not None:
        time_s, values, labels = _mended(time_s, values, labels, repairs, path)
        if not len(time_s):
            raise RecordingError(f"{path}: no row has numbers of all six axes")
    check_clock(time_s, str(path))
    if foreign:
        _check_plausible(values, path, source)
    rate = metadata.get("rate_hz")
    if rate is None:
        if len(time_s) < 2:
            raise RecordingError("one row has no sampling rate; a recording needs two or more", where=path)
        rate = nominal_rate_hz(np.rint((time_s - time_s[0]) * 1e6).astype(np.int64))
    elif not isinstance(rate, int | float):
        raise RecordingError(f"rate_hz is {rate!r} in its metadata; it is a number of Hz", where=path)
    if len(time_s) > 2 and not 0.5 * float(rate) < (measured := _measured_rate(time_s)) < 2.0 * float(rate):
        raise RecordingError(
            f"the clock ticks at {measured:g} Hz, but the rate given is {float(rate):g} Hz",
            where=path,
            cure="check the unit of the time column (--time-unit) and rate_hz",
            setting="time-unit",
        )
    if not MIN_RATE_HZ <= float(rate) <= MAX_RATE_HZ:
        raise RecordingError(
            f"the clock ticks at {float(rate):g} Hz, outside {MIN_RATE_HZ:g}–{MAX_RATE_HZ:g} Hz",
            where=path,
            cure="is the unit of its time column right (--time-unit s, ms, us or ns)?",
            setting="time-unit",
        )
    text = {k: str(metadata.get(k) or "") for k in ("subject", "session", "device", "side", "source")}
    if text["side"] and text["side"] not in SIDES:
        raise RecordingError(f"side is {text['side']!r}; it is one of {', '.join(SIDES)}", where=path)
    return Recording(
        name=path.stem,
        subject=text["subject"] or "unknown",
        session=text["session"] or path.stem,
        device=text["device"] or path.stem,
        time_s=time_s,
        values=values,
        rate_hz=float(rate),
        side=text["side"] or "unknown",
        source=text["source"] or "file",
        labels=labels,
        path=path,
        provenance=started_at(first_us) | _texts(metadata.get("provenance")),
    )


def _texts(given: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}


def _mended(
    time_s: FloatArray, values: FloatArray, labels: TextArray | None, repairs: Counter[str], path: Path
) -> tuple[FloatArray, FloatArray, TextArray | None]:
    known = np.isfinite(time_s)
    time_ns = np.where(known, np.rint(np.where(known, time_s, 0.0) * 1e9), 0.0).astype(np.int64)
    time_ns[~known] = MISSING_NS
    before = dict(repairs)
    cleaned, labels = clean(Stream(time_ns, values), labels, repairs, path)
    if labels is not None and (labels == "").any():
        repairs["labels_filled"] += int((labels == "").sum())
        labels = np.where(labels == "", UNLABELLED, labels)
    if dict(repairs) == before:
        return time_s, values, labels  # to the last bit
    return cleaned.time_ns / 1e9, cleaned.values, labels


def _measured_rate(time_s: FloatArray) -> float:
    return 1.0 / float(np.median(np.diff(time_s)))


def _read_table(path: Path, source: SourceFormat) -> tuple[pa.Table, dict[str, object]]:
    """Read those of a file's columns that are needed (CSV: as text) and its metadata."""
    if path.suffix.lower() not in ENDINGS:
        raise RecordingError(f"expected a file ending in {' or '.join(ENDINGS)}", where=path)
    if not path.is_file():
        raise RecordingError("there is no such file", where=path)
    if not path.stat().st_size:
        raise RecordingError("the file is empty; record something, or leave it out", where=path)
    metadata: dict[str, object] = {}
    try:
        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as parquet:
                table = parquet.read(columns=_needed(path, parquet.schema_arrow.names, source))
            raw = (table.schema.metadata or {}).get(METADATA_KEY)
            metadata = _known_fields(json.loads(raw)) if raw else {}
        else:
            table = _read_csv(path)
            table = table.select(_needed(path, table.column_names, source))
            beside = path.with_suffix(".json")
            if beside.is_file():
                metadata = _known_fields(json.loads(beside.read_text(encoding="utf-8")))
    except MemoryError:
        raise RecordingError(
            "reading it takes more memory than there is; cut it into several files", where=path
        ) from None
    except pa.ArrowException as error:
        reason = str(error).strip().splitlines()[0]
        raise RecordingError(
            f"not a readable {path.suffix[1:].upper()} table ({reason}); "
            "check that the file is complete and of the format its ending names",
            where=path,
        ) from None
    except UnicodeDecodeError as error:
        raise RecordingError(f"not text in UTF-8 ({error}); is it really a CSV file?", where=path) from None
    except ValueError as error:
        raise RecordingError(f"its metadata is not a JSON object ({error})", where=path) from None
    except OSError as error:
        raise RecordingError(f"cannot be read ({error})", where=path) from None
    return table, metadata


def _known_fields(loaded: Any) -> dict[str, object]:
    if not isinstance(loaded, dict):
        raise ValueError(f"found {type(loaded).__name__}")  # noqa: TRY004  (becomes a RecordingError)
    return {k: loaded[k] for k in _METADATA_FIELDS if loaded.get(k) is not None}


def _needed(path: Path, names: Sequence[str], source: SourceFormat) -> list[str]:
    """Tell which of a file's columns are to be read, in its order; all that must be there are."""
    wanted = {source.columns.get(canonical, canonical): canonical for canonical in ("time", *AXES, "label")}
    for name, canonical in wanted.items():
        if name not in names and (canonical != "label" or "label" in source.columns):
            raise RecordingError(
                f"there is no column {name!r} (for {canonical}); it has {', '.join(map(repr, names[:20]))}",
                where=path,
                cure=f"map it with --column {canonical}=NAME",
                setting=canonical,
            )
        if names.count(name) > 1:
            raise RecordingError(f"duplicate column {name!r}; rename all but one in the file's header", where=path)
    return [name for name in names if name in wanted]


def _read_csv(path: Path) -> pa.Table:
    with path.open("rb") as file:
        header = file.readline(100_000)
    delimiter = max(",;\t", key=lambda d: header.count(d.encode()))
    names = pa.csv.open_csv(path, parse_options=pa.csv.ParseOptions(delimiter=delimiter)).schema.names
    return pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=pa.csv.ConvertOptions(
            # Text first: a cell that is no number is then found by its row, not by a byte offset.
            column_types={name: pa.string() for name in names},
            strings_can_be_null=False,
        ),
    )


def _numbers(table: pa.Table, path: Path, name: str, mend: bool = False) -> FloatArray:
    """A column's numbers; where they are to be mended, NaN for cells that are empty or not finite."""
    column = table.column(name)
    if mend:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            bare = pc.utf8_trim_whitespace(column)
            column = pc.if_else(pc.is_in(bare, pa.array(["", *MISSING_TEXTS])), None, bare)
        elif pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_finite(column), column, None)
        if column.null_count:
            there = pc.is_valid(column)
            numbers = np.full(len(column), np.nan)
            found = _numbers(table.filter(there), path, name)
            numbers[there.to_numpy()] = found
            return numbers
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise _bad_cell(path, row, name, "empty")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
    try:
        numbers = np.asarray(pc.cast(column, pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        for row, cell in enumerate(column.to_pylist()):
            try:
                float(cell)
            except (TypeError, ValueError):
                raise _bad_cell(path, row, name, f"{cell!r}" if cell else "empty") from None
        raise RecordingError(f"column {name!r} is of type {column.type}, not of numbers", where=path) from None
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if wrong.size:
        raise _bad_cell(path, int(wrong[0]), name, str(column[int(wrong[0])].as_py()))
    return numbers


def _bad_cell(path: Path, row: int, name: str, found: str) -> RecordingError:
    return RecordingError(
        f"row {row + 1}, column {name!r}: found {found} where a finite number is needed; "
        "remove the row (a gap of up to 0.2 s is interpolated) or repair it",
        where=path,
    )


def _time(table: pa.Table, path: Path, source: SourceFormat, mend: bool) -> tuple[FloatArray, int]:
    """Seconds, and the first time in µs; an epoch is moved to start at 0."""
    name = source.columns.get("time", "time")
    column = table.column(name)
    unit = TIME_UNITS[source.time_unit]
    if pa.types.is_timestamp(column.type):
        unit = TIME_UNITS[column.type.unit]
        column = pc.cast(column, pa.int64())
    whole = _whole_numbers(column)
    if whole is not None and not column.null_count:
        # Subtract before scaling: nanoseconds since 1970 do not fit a float64.
        first = int(whole[0]) if whole[0] * unit >= FIRST_EPOCH_S else 0
        return np.asarray((whole - first) * unit, dtype=np.float64), round(int(whole[0]) * unit * 1e6)
    seconds = _numbers(table, path, name, mend) * unit
    known = seconds[np.isfinite(seconds)]
    first_s = float(known[0]) if len(known) else 0.0
    return seconds - first_s if first_s >= FIRST_EPOCH_S else seconds, round(first_s * 1e6)


def _whole_numbers(column: pa.ChunkedArray) -> IntArray | None:
    try:
        return np.asarray(pc.cast(column, pa.int64()).to_numpy(), dtype=np.int64)
    except pa.ArrowException:
        return None


def _labels(table: pa.Table, path: Path, source: SourceFormat, mend: bool) -> TextArray | None:
    name = source.columns.get("label", "label")
    if name not in table.column_names:
        return None
    column = pc.cast(table.column(name), pa.string())
    if column.null_count:
        column = pc.fill_null(column, "")
    labels = np.array(column.to_pylist(), dtype=np.str_)
    empty = np.flatnonzero(labels == "")
    if empty.size and not mend:
        raise RecordingError(
            f"row {int(empty[0]) + 1}, column {name!r}: an empty label; "
            "name the activity (for example 'Rest'), or leave the column out",
            where=path,
        )
    return labels


def _check_plausible(values: FloatArray, path: Path, source: SourceFormat) -> None:
    """Refuse units that cannot be meant."""
    median_g = float(np.median(np.linalg.norm(values[:, :3], axis=1)))
    if median_g > _IMPLAUSIBLE_MEDIAN_G:
        raise RecordingError(
            f"the median acceleration is {median_g:.1f} g, read as {source.accel_unit}; a wrist at rest shows 1 g",
            where=path,
            cure="if it is in m/s², give --accel-unit m/s2",
            setting="accel-unit",
        )


def write_recording(recording: Recording, path: Path, more: Mapping[str, Sequence[str]] | None = None) -> None:
    """Write a recording in the canonical form.

    Parameters
    ----------
    recording : Recording
    path : Path
        Its ending, ``.csv`` or ``.parquet``, decides the format. Metadata go into the Parquet file, or into a
        ``.json`` beside the CSV.
    more : mapping, optional
        Further columns, which no command reads.

    Raises
    ------
    RecordingError
        For another ending, or where the file cannot be written.
    """
    columns: dict[str, Any] = {"time": recording.time_s}
    columns |= {axis: recording.values[:, i] for i, axis in enumerate(AXES)}
    if recording.labels is not None:
        columns["label"] = recording.labels
    columns |= more or {}
    metadata = {k: getattr(recording, k) for k in _METADATA_FIELDS}
    if not recording.provenance:
        del metadata["provenance"]
    write_table(columns, path, metadata)


def write_table(
    columns: Mapping[str, AnyArray | Sequence[Any]],
    path: Path,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write columns of equal length as CSV or Parquet, by the path's ending.

    Floats keep every bit (CSV writes their shortest exact form).
    """
    check_ending(path)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".parquet":
            if metadata is not None:
                table = table.replace_schema_metadata({METADATA_KEY: json.dumps({"v": 1, **metadata})})
            pq.write_table(table, path)
        else:
            pa.csv.write_csv(table, path, pa.csv.WriteOptions(quoting_style="needed"))
            if metadata is not None:
                text = json.dumps({"v": 1, **metadata}, indent=1)
                path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RecordingError(f"cannot be written ({error})", where=path) from None


def check_ending(path: Path) -> None:
    """Refuse a table's path that is neither CSV nor Parquet, before any work is done."""
    if path.suffix.lower() not in ENDINGS:
        raise RecordingError(f"the table must end in {' or '.join(ENDINGS)}", where=path)
