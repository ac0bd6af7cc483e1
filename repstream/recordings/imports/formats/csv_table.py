"""Any table of one recording: columns as a mapping file names them, else as their names suggest."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from repstream.arrays import IntArray
from repstream.errors import RecordingError
from repstream.recordings.columns import guess_columns
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.mapping import Mapping
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import Table, read_table, rows_of
from repstream.recordings.imports.tree import File

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")
LOOK_ROWS = 5

_UNIT = re.compile(r"[(\[]\s*(.*?)\s*[)\]]\s*$")
_UNITS = {
    "g": "g",
    "mg": "mg",
    "m/s2": "m/s2",
    "m/s^2": "m/s2",
    "m/s²": "m/s2",
    "ms-2": "m/s2",
    "rad/s": "rad/s",
    "deg/s": "deg/s",
    "°/s": "deg/s",
    "dps": "deg/s",
    "mdps": "mdeg/s",
}


@dataclass(frozen=True)
class Look:
    """A table's beginning.

    Attributes
    ----------
    names : list of str
        Of all columns.
    rows : list of list of str
        Its first `LOOK_ROWS` rows, as text.
    guessed : dict of str to str
        Canonical name to the file's, where there is a guess.
    """

    names: list[str]
    rows: list[list[str]]
    guessed: dict[str, str]


def claim(files: Sequence[File]) -> list[Job]:
    """Take every table that nobody else knows."""
    return [Job("csv", str(f), (f,)) for f in files if f.ending in ENDINGS]


def read(job: Job, mapping: Mapping | None = None) -> Iterator[RawSession]:
    """Read one table as one recording.

    Raises
    ------
    RecordingError
        Where columns are missing.
    """
    file, mapping = job.files[0], mapping or Mapping()
    repairs: Counter[str] = Counter()
    table, columns = _read(file, mapping, repairs)
    time_ns = _times(table, columns.get("time"), mapping)
    accel, gyro = _sensor(table, columns, "accel", time_ns, mapping), _sensor(table, columns, "gyro", time_ns, mapping)
    if accel is None:
        raise RecordingError(
            f"{file}: no acceleration found among {', '.join(map(repr, table.names[:20]))}; name its columns in a mapping file"
        )
    session = str(PurePosixPath(file.relative).with_suffix("")).replace("/", "-")
    yield RawSession(
        source=str(file),
        accel=accel,
        gyro=gyro,
        gravity=_sensor(table, columns, "gravity", time_ns, mapping),
        session=session,
        device=session,
        labels=table.text(columns["label"]) if "label" in columns else None,
        rate_hz=mapping.rate_hz,
        repairs=repairs,
    )


def look(file: File) -> Look:
    """Look at the beginning of a table.

    Raises
    ------
    RecordingError
        Where it is no table.
    """
    if file.ending == ".parquet":
        with parquet_of(file) as parquet:
            names = list(parquet.schema_arrow.names)
            first = next(parquet.iter_batches(LOOK_ROWS, use_threads=False), None)
        rows = [[str(cell) for cell in row.values()] for row in (first.to_pylist() if first else [])]
    else:
        names, *rows = rows_of(file, LOOK_ROWS + 1)
    return Look(names, rows, guess(names))


def _read(file: File, mapping: Mapping, repairs: Counter[str]) -> tuple[Table, dict[str, str]]:
    """Read a table, of Parquet only what is needed, and tell what its columns are."""
    if file.ending != ".parquet":
        table = read_table(file, skip_rows=mapping.skip_rows, delimiter=mapping.delimiter)
        columns = _columns(file, table.names, mapping)
        _drop_headers(table, columns.values(), repairs)
        return table, columns
    with parquet_of(file) as parquet:
        names = list(parquet.schema_arrow.names)
        columns = _columns(file, names, mapping)
        found = parquet.read(columns=list(columns.values()), use_threads=False)
    return Table(file, {name: found.column(name) for name in names if name in found.column_names}), columns


def _drop_headers(table: Table, names: Collection[str], repairs: Counter[str]) -> None:
    """Drop rows that are the header again, as in files that were put together."""
    texts = [name for name in names if pa.types.is_string(table.columns[name].type)]
    if not names or len(texts) < len(names):
        return  # one column of numbers has no header in it
    again = np.ones(len(table), dtype=bool)
    for name in texts:
        again &= table.text(name) == name
    if again.any():
        repairs["header_rows"] += int(again.sum())
        table.columns = {name: column.filter(pa.array(~again)) for name, column in table.columns.items()}


@contextlib.contextmanager
def parquet_of(file: File) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, in an archive, too; what it is to blame for becomes a `RecordingError`."""
    try:
        with file.seekable() as data, pq.ParquetFile(data) as parquet:
            yield parquet
    except MemoryError:  # pyarrow's is one of its exceptions, too
        raise
    except pa.ArrowException as error:
        raise RecordingError(f"{file}: not a readable Parquet table ({str(error).splitlines()[0]})") from None


def _columns(file: File, names: Sequence[str], mapping: Mapping) -> dict[str, str]:
    """Name of each canonical column in the file, those of a mapping first."""
    given: dict[str, str] = {}
    for name, value in mapping.columns.items():
        given |= (
            {name: value} if isinstance(value, str) else {f"{name}_{a}": v for a, v in zip("xyz", value, strict=True)}
        )
    for canonical, name in given.items():
        if name not in names:
            raise RecordingError(
                f"{file}: there is no column {name!r} (for {canonical}); it has {', '.join(map(repr, names[:20]))}"
            )
    guessed = guess([n for n in names if n not in given.values() and n], {*given})
    if mapping.rate_hz is not None and "time" not in given:
        guessed.pop("time", None)
    return guessed | given


def guess(names: Sequence[str], known: Collection[str] = ()) -> dict[str, str]:
    """Guess what columns are by their names, with gravity where the acceleration is without it.

    Parameters
    ----------
    names : sequence of str
    known : collection of str
        Canonical columns that need no guess.

    Returns
    -------
    dict of str to str
        Canonical name to the file's.
    """
    gravity = {f"gravity_{a}": n for n in names for a in "xyz" if re.search(rf"grav\w*[^a-z]*{a}\b", n, re.IGNORECASE)}
    linear = [n for n in names if re.search(r"linear|user", n, re.IGNORECASE)]
    guessed = guess_columns([n for n in names if n not in linear and n not in gravity.values()])
    if "accel_x" not in guessed and "accel_x" not in known:
        guessed = guess_columns([n for n in names if n not in gravity.values()])
        guessed |= gravity if len(gravity) == 3 else {}
    return {canonical: name for canonical, name in guessed.items() if canonical not in known}


def _times(table: Table, name: str | None, mapping: Mapping) -> IntArray:
    if name is None:
        if mapping.rate_hz is None:
            raise RecordingError(
                f"{table.file}: no column of times found among {', '.join(map(repr, table.names[:20]))}; name it in a mapping "
                "file, or give the rate there (rate_hz)"
            )
        counted: IntArray = np.rint(np.arange(len(table)) * (1e9 / mapping.rate_hz)).astype(np.int64)
        return counted
    said = _UNIT.search(name)
    unit = mapping.units.get("time") or (
        said[1].lower() if said and said[1].lower() in ("s", "ms", "us", "ns") else None
    )
    return table.time_ns(name, unit)


def _sensor(table: Table, columns: dict[str, str], sensor: str, time_ns: IntArray, mapping: Mapping) -> Stream | None:
    found = [columns.get(f"{sensor}_{axis}") for axis in "xyz"]
    x, y, z = found
    if x is None or y is None or z is None:
        return None
    values = table.axes((x, y, z))
    for axis in mapping.flip.get(sensor, []):
        values[:, "xyz".index(axis)] *= -1.0
    said = _UNIT.search(x)
    unit = mapping.units.get("accel" if sensor == "gravity" else sensor) or (
        _UNITS.get(said[1].lower()) if said else None
    )
    return Stream(time_ns, values, unit)


FORMAT = Format("csv", claim, read, Provenance("a table"))
