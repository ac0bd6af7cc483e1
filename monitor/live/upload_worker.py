"""Look into a visitor's file, or convert it, and end: ``python -m monitor.live.upload_worker SECONDS``; a question on stdin.

Started by `monitor.live.uploads`: a small file can unpack to gigabytes, or break the library that reads it. Here it
meets a limit of memory and of time, and costs this process alone. The question and the answer are JSON.
"""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from repstream.arrays import FloatArray
from repstream.errors import RecordingError
from repstream.recordings.axes import AXES
from repstream.recordings.columns import guess_columns, guess_units
from repstream.recordings.tables import SourceFormat, read_recording, write_recording

MEMORY_BYTES = 1_000_000_000
"""Address space of the process. The libraries take a third of it; a million rows are converted in another."""

# What a file of 20 MB may unpack to.
_MOST_ROWS = 1_000_000
_MOST_COLUMNS = 200
_MOST_CELLS = 20_000_000
_MOST_TEXT = 200
_MOST_FILE_BYTES = 200_000_000
_LOOKED_AT_ROWS = 1_000
_SHOWN_ROWS = 5

_OR_PRODUCE = "cut it, or replay it with `repstream produce`"


class Question(msgspec.Struct):
    """What is to be done.

    Attributes
    ----------
    name : str
        As the visitor calls the file.
    path : str
        Where it is.
    out : str
        Where the canonical form goes; empty for a look alone.
    columns, time_unit, accel_unit, gyro_unit, metadata
        As in `repstream.recordings.tables.SourceFormat`.
    """

    name: str
    path: str
    out: str = ""
    columns: dict[str, str] = {}
    time_unit: str = "s"
    accel_unit: str = "g"
    gyro_unit: str = "deg/s"
    metadata: dict[str, str] = {}


class Answer(msgspec.Struct, omit_defaults=True):
    """What was found, or why not, in words for the page."""

    found: dict[str, Any] = {}
    refused: str = ""


def answer(question: Question) -> Answer:
    """Do what is asked; what the file is to blame for becomes words."""
    path, name = Path(question.path), question.name
    try:
        return Answer(_convert(path, question) if question.out else _look_into(path))
    except RecordingError as error:
        said = _for_the_page(error)
    except MemoryError:  # pyarrow's, too
        said = f"reading it takes more memory than there is for it ({MEMORY_BYTES / 1e9:g} GB); {_OR_PRODUCE}"
    except pa.ArrowException as error:
        said = f"not a readable {path.suffix[1:].upper()} table ({str(error).strip().splitlines()[0]})"
    except (UnicodeDecodeError, ValueError, OSError) as error:
        said = f"cannot be read ({error})"
    # Where the monitor keeps files is nobody's business.
    return Answer(refused=f"{name}: {said.replace(str(path), name)}")


_CURES = {
    "time-unit": "choose another unit of the time column (s, ms, µs or ns)",
    "accel-unit": "if it is in m/s², choose that unit",
}


def _for_the_page(error: RecordingError) -> str:
    """Name the page's own controls in a cure, not the command's."""
    choose = f"choose it under “{error.setting}”" if error.setting else error.cure
    cure = _CURES.get(error.setting, choose)
    return f"{error.problem}; {cure}" if cure else error.problem


def _convert(path: Path, question: Question) -> dict[str, Any]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as parquet:
            _check_flat(parquet.schema_arrow)
    source = SourceFormat(
        question.columns, question.time_unit, question.accel_unit, question.gyro_unit, question.metadata
    )
    recording = read_recording(path, source)
    write_recording(recording, Path(question.out))
    return {"seconds": recording.duration_s, "rate_hz": recording.rate_hz}


def _look_into(path: Path) -> dict[str, Any]:
    table, rows = _first_rows(path) if path.suffix == ".parquet" else _first_lines(path)
    if len(set(table.column_names)) != table.num_columns:
        twice = next(n for n in table.column_names if table.column_names.count(n) > 1)
        raise RecordingError(f"duplicate column {twice!r}; rename all but one in the file's header")
    _check_texts(table)
    mapping = guess_columns(table.column_names)
    values = {
        canonical: numbers
        for canonical in ("time", *AXES)
        if canonical in mapping and (numbers := _numbers(table, mapping[canonical])) is not None
    }
    head = [[str(cell) for cell in row.values()] for row in table.slice(0, _SHOWN_ROWS).to_pylist()]
    return {
        "rows": rows,
        "columns": table.column_names,
        "head": head,
        "mapping": mapping,
        "units": guess_units(mapping, values),
    }


def _check_size(rows: int, columns: int) -> None:
    if rows < 1 or not columns:
        raise RecordingError("it has no rows; choose a file with a header and one row a sample")
    if rows > _MOST_ROWS or columns > _MOST_COLUMNS or rows * columns > _MOST_CELLS:
        raise RecordingError(
            f"{rows:,} rows of {columns} columns; up to {_MOST_ROWS:,} rows, {_MOST_COLUMNS} columns and "
            f"{_MOST_CELLS:,} cells are taken here: {_OR_PRODUCE}"
        )


def _check_flat(schema: pa.Schema) -> None:
    """Refuse what is not one number, time or text a row, before any of it is read."""
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (
            any(pa.types.is_integer(kind) or f(kind) for f in _NUMBERS)
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
        ):
            raise RecordingError(
                f"column {field.name[:_MOST_TEXT]!r} is of type {str(field.type)[:_MOST_TEXT]}; columns of numbers, "
                "times and short texts are taken here: leave it out"
            )


_NUMBERS = (pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_temporal, pa.types.is_null)


def _check_texts(table: pa.Table) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        if len(name) > _MOST_TEXT:
            raise RecordingError(f"a column's name has {len(name):,} characters; up to {_MOST_TEXT} are taken here")
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > 4 * _MOST_TEXT:
                raise RecordingError(
                    f"column {name!r} holds a text of {longest:,} bytes; up to {4 * _MOST_TEXT} are taken here: "
                    "leave it out"
                )


def _first_rows(path: Path) -> tuple[pa.Table, int]:
    """Read a Parquet file's first rows, and count all."""
    with pq.ParquetFile(path) as parquet:
        rows = int(parquet.metadata.num_rows)
        _check_size(rows, parquet.metadata.num_columns)
        _check_flat(parquet.schema_arrow)
        return pa.Table.from_batches([next(parquet.iter_batches(_LOOKED_AT_ROWS, use_threads=False))]), rows


def _first_lines(path: Path) -> tuple[pa.Table, int]:
    """Read a CSV file's first rows, as text, and count all."""
    with path.open("rb") as file:
        lines = [line for _, line in zip(range(_LOOKED_AT_ROWS + 1), file, strict=False)]
        rows = len(lines) - 1 + sum(1 for _ in file)
    header = lines[0] if lines else b""
    delimiter = max(",;\t", key=lambda d: header.count(d.encode()))
    _check_size(rows, header.count(delimiter.encode()) + 1)
    names = header.decode("utf-8-sig").strip().split(delimiter)
    table = pa.csv.read_csv(
        pa.BufferReader(b"".join(lines)),
        read_options=pa.csv.ReadOptions(use_threads=False),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=pa.csv.ConvertOptions(
            column_types={n.strip('"'): pa.string() for n in names}, strings_can_be_null=False
        ),
    )
    return table, rows


def _numbers(table: pa.Table, name: str) -> FloatArray | None:
    """A column's numbers; None where it has others."""
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
    try:
        numbers = np.asarray(pc.cast(column, pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        return None
    return numbers[np.isfinite(numbers)]


def main() -> None:
    """Read the argument and the question; see above."""
    signal.alarm(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_FILE_BYTES, _MOST_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(answer(question)))


if __name__ == "__main__":
    main()
