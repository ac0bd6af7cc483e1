"""Any table of one recording: columns as a mapping file names them, else as their names suggest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from repstream.arrays import IntArray
from repstream.errors import RecordingError
from repstream.recordings.axes import known_side
from repstream.recordings.columns import guess_columns
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.mapping import Mapping
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import Table, read_table
from repstream.recordings.imports.tree import File

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")

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


def claim(files: Sequence[File]) -> list[Job]:
    """Take every table that nobody else knows."""
    return [Job("csv", str(f), (f,)) for f in files if f.ending in ENDINGS]


def read(job: Job, mapping: Mapping | None = None) -> Iterator[RawSession]:
    """Read one table as one recording.

    Raises
    ------
    RecordingError
        Where columns are missing, or the mapping file's pattern does not fit the file's place.
    """
    file, mapping = job.files[0], mapping or Mapping()
    values = mapping.fill(file.relative)
    if values is None:
        raise RecordingError(f"{file}: its place {file.relative!r} does not fit the mapping's pattern")
    table = _read(file, mapping)
    columns = _columns(table, mapping)
    time_ns = _times(table, columns.get("time"), mapping)
    accel, gyro = _sensor(table, columns, "accel", time_ns, mapping), _sensor(table, columns, "gyro", time_ns, mapping)
    if accel is None:
        raise RecordingError(
            f"{file}: no acceleration found among {', '.join(map(repr, table.names[:20]))}; name its columns in a mapping file"
        )
    labels = table.text(columns["label"]) if "label" in columns else None
    if labels is None and values.get("label"):
        labels = np.full(len(table), values["label"])
    if labels is not None and mapping.labels:
        labels = np.array([mapping.labels.get(str(label), str(label)) for label in labels])
    side = values.get("side", "unknown").lower()
    session = values.get("session") or str(PurePosixPath(file.relative).with_suffix("")).replace("/", "-")
    yield RawSession(
        source=str(file),
        accel=accel,
        gyro=gyro,
        gravity=_sensor(table, columns, "gravity", time_ns, mapping),
        subject=values.get("subject") or "unknown",
        session=session,
        device=values.get("device") or session,
        side=known_side({"l": "left", "r": "right"}.get(side, side)),
        labels=labels,
        rate_hz=mapping.rate_hz,
    )


def _read(file: File, mapping: Mapping) -> Table:
    if file.ending != ".parquet":
        return read_table(file, skip_rows=mapping.skip_rows, delimiter=mapping.delimiter)
    try:
        with file.seekable() as data:
            table = pq.read_table(data)
    except pa.ArrowException as error:
        raise RecordingError(f"{file}: not a readable Parquet table ({str(error).splitlines()[0]})") from None
    return Table(file, {name: table.column(name) for name in table.column_names})


def _columns(table: Table, mapping: Mapping) -> dict[str, str]:
    """Name of each canonical column in the file, those of a mapping first."""
    given: dict[str, str] = {}
    for name, value in mapping.columns.items():
        given |= (
            {name: value} if isinstance(value, str) else {f"{name}_{a}": v for a, v in zip("xyz", value, strict=True)}
        )
    for canonical, name in given.items():
        if name not in table.columns:
            raise RecordingError(
                f"{table.file}: there is no column {name!r} (for {canonical}); it has {', '.join(map(repr, table.names[:20]))}"
            )
    free = [n for n in table.names if n not in given.values() and n]
    gravity = {f"gravity_{a}": n for n in free for a in "xyz" if re.search(rf"grav\w*[^a-z]*{a}\b", n, re.IGNORECASE)}
    linear = [n for n in free if re.search(r"linear|user", n, re.IGNORECASE)]
    total = [n for n in free if n not in linear and n not in gravity.values()]
    guessed = guess_columns(total)
    if "accel_x" not in guessed and "accel_x" not in given:
        guessed = guess_columns([n for n in free if n not in gravity.values()])
        guessed |= gravity if len(gravity) == 3 else {}
    if mapping.rate_hz is not None and "time" not in given:
        guessed.pop("time", None)
    return guessed | given


def _times(table: Table, name: str | None, mapping: Mapping) -> IntArray:
    if name is None or mapping.units.get("time") == "index":
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
