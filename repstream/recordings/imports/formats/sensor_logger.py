"""Sensor Logger: a folder or zip with one table for each sensor, of phone or watch, or all of it as JSON.

``Accelerometer`` is without gravity on both platforms, ``TotalAcceleration`` (Android) with it. What an iPhone or an
Apple Watch says has the opposite sign of Android, unless the app standardised it; the watch, and the phone's
uncalibrated acceleration, are then also in g, not m/s² (see the app's COORDINATES and CROSSPLATFORM notes).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from repstream.arrays import FloatArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.axes import known_side
from repstream.recordings.imports import units
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import header_of, read_table
from repstream.recordings.imports.tree import File

_SENSORS = (
    *("Accelerometer", "AccelerometerUncalibrated", "TotalAcceleration", "Gravity"),
    *("Gyroscope", "GyroscopeUncalibrated", "WristMotion", "Orientation"),
    *("WatchAccelerometer", "WatchGravity", "WatchGyroscope", "WatchAccelerometerUncalibrated"),
)
_BESIDE = ("Metadata", "Annotation")
_XYZ = ("x", "y", "z")


def claim(files: Sequence[File]) -> list[Job]:
    """Put the tables of one folder together, phone and watch apart."""
    folders: dict[tuple[Path | None, str], dict[str, File]] = defaultdict(dict)
    jobs = []
    for file in files:
        if file.ending == ".json" and b'"seconds_elapsed"' in file.head(100_000):
            jobs.append(Job("sensor-logger", str(file), (file,), {"kind": "json", "session": _session(file)}))
        elif file.ending == ".csv" and (file.stem in _BESIDE or _is_sensor(file)):
            folders[file.archive, file.folder][file.stem] = file
    for found in folders.values():
        beside = [found[name] for name in _BESIDE if name in found]
        watch = [f for name, f in found.items() if name == "WristMotion" or name.startswith("Watch")]
        phone = [f for name, f in found.items() if f not in watch and name in _SENSORS]
        for kind, tables in (("watch", watch), ("phone", phone)):
            if any(f.stem != "Orientation" for f in tables):
                first = min(tables, key=lambda f: _SENSORS.index(f.stem))
                about = {"kind": kind, "session": _session(first)}
                jobs.append(Job("sensor-logger", str(first), (*tables, *beside), about, (first.folder,)))
    return jobs


def _is_sensor(file: File) -> bool:
    return file.stem in _SENSORS and "seconds_elapsed" in header_of(file)


def _session(file: File) -> str:
    return PurePosixPath(file.folder).name or (file.disk.stem if file.member else file.disk.resolve().parent.name)


def read(job: Job) -> Iterator[RawSession]:
    """Read phone or watch; of JSON both.

    Raises
    ------
    RecordingError
        Where a sensor has no such column as the app writes.
    """
    try:
        yield from _read(job)
    except KeyError as error:
        raise RecordingError(
            f"{job.source}: there is no column {error} where the app writes one; export the recording again"
        ) from error


def _read(job: Job) -> Iterator[RawSession]:
    if job.about["kind"] == "json":
        sensors, metadata = _of_json(job.files[0])
        watch = {name: rows for name, rows in sensors.items() if name == "WristMotion" or name.startswith("Watch")}
        phone = {name: rows for name, rows in sensors.items() if name not in watch}
        found = [("watch", watch), ("phone", phone)]
        sessions = [
            _assembled(job, kind, tables, metadata, None) for kind, tables in found if set(tables) - {"Orientation"}
        ]
        if not sessions:
            raise RecordingError(
                f"{job.source}: there is no motion sensor in it; choose acceleration and gyroscope in the app"
            )
        yield from sessions
        return
    tables = {f.stem: _of_csv(f) for f in job.files if f.stem not in _BESIDE}
    beside = {f.stem: f for f in job.files if f.stem in _BESIDE}
    yield _assembled(job, job.about["kind"], tables, _metadata(beside.get("Metadata")), beside.get("Annotation"))


class _Rows(dict[str, FloatArray]):
    """A sensor's columns; ``time_ns`` among them, as whole numbers."""

    def stream(self, names: tuple[str, str, str], unit: str | None) -> Stream:
        """Return three columns as a stream."""
        return Stream(self["time_ns"].astype(np.int64), np.stack([self[n] for n in names], axis=1), unit)


def _of_csv(file: File) -> _Rows:
    table = read_table(file)
    rows = _Rows({name: table.numbers(name) for name in table.names if name not in ("time", "seconds_elapsed")})
    rows["time_ns"] = table.time_ns("time", "ns")  # type: ignore[assignment]
    return rows


def _of_json(file: File) -> tuple[dict[str, _Rows], dict[str, str]]:
    try:
        entries = json.loads(file.read())
    except ValueError as error:
        raise RecordingError(f"{file}: not JSON ({error}); export the recording again") from None
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and "sensor" in entry:
            grouped[str(entry["sensor"])].append(entry)
    metadata = {str(k): str(v) for entry in grouped.pop("Metadata", []) for k, v in entry.items()}
    sensors: dict[str, _Rows] = {}
    for sensor, found in grouped.items():
        if sensor not in _SENSORS:
            continue
        names = [k for k in found[0] if k not in ("sensor", "time", "seconds_elapsed")]
        try:
            rows = _Rows({n: np.array([_number(e.get(n)) for e in found]) for n in names})
            rows["time_ns"] = np.array([int(e["time"]) for e in found], dtype=np.int64)
        except (KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"{file}: sensor {sensor}: {error}; export the recording again") from None
        sensors[sensor] = rows
    return sensors, metadata


def _number(cell: Any) -> float:
    """A number, or a text of one; NaN where there is none."""
    return float("nan" if cell in (None, "") else cell)


def _metadata(file: File | None) -> dict[str, str]:
    if file is None:
        return {}
    table = read_table(file)
    return {name: str(table.text(name)[0]) for name in table.names if len(table)}


def _assembled(
    job: Job, kind: str, tables: dict[str, _Rows], metadata: dict[str, str], annotations: File | None
) -> RawSession:
    accel, gravity, gyro = _motion(job, tables)
    notes: list[str] = []
    flipped = _is_flipped(tables, accel, gravity, metadata, notes)
    device = metadata.get("device name") or metadata.get("device id") or "phone"
    labels, side = None, "unknown"
    if annotations is not None:
        labels = _labels(annotations, accel)
    if kind == "watch":
        side = metadata.get("watch wrist location", metadata.get("wristLocation", "unknown")).lower()
    return RawSession(
        source=job.source,
        accel=accel,
        gyro=gyro,
        gravity=gravity,
        session=job.about["session"] if kind == "phone" else f"{job.about['session']}-watch",
        device=(device if kind == "phone" else f"{device}-watch").replace("/", "-"),
        side=known_side(side),
        flipped=flipped,
        labels=labels,
        notes=notes,
    )


def _motion(job: Job, tables: dict[str, _Rows]) -> tuple[Stream, Stream | None, Stream | None]:
    """Choose the sensors: acceleration, gravity to add to it, angular rate."""
    if "WristMotion" in tables:
        wrist = tables["WristMotion"]
        user = wrist.stream(("accelerationX", "accelerationY", "accelerationZ"), None)
        steady = wrist.stream(("gravityX", "gravityY", "gravityZ"), None)
        gyro = wrist.stream(("rotationRateX", "rotationRateY", "rotationRateZ"), "rad/s")
        unit = units.accel_unit(float(np.nanmedian(np.linalg.norm(steady.values, axis=1))), 1.0)
        total = Stream(user.time_ns, user.values + steady.values, unit)
        return total, None, Stream(total.time_ns, gyro.values, "rad/s")
    prefix = "Watch" if any(name.startswith("Watch") for name in tables) else ""
    turning = tables.get(f"{prefix}Gyroscope") or tables.get(f"{prefix}GyroscopeUncalibrated")
    gyro_of = turning.stream(_XYZ, "rad/s") if turning else None
    if "TotalAcceleration" in tables:
        return tables["TotalAcceleration"].stream(_XYZ, "m/s2"), None, gyro_of
    own, steady_rows = tables.get(f"{prefix}Accelerometer"), tables.get(f"{prefix}Gravity")
    if own is not None and steady_rows is not None:
        gravity = steady_rows.stream(_XYZ, None)
        unit = units.accel_unit(float(np.nanmedian(np.linalg.norm(gravity.values, axis=1))), 1.0)
        return own.stream(_XYZ, unit), Stream(gravity.time_ns, gravity.values, unit), gyro_of
    raw = tables.get(f"{prefix}AccelerometerUncalibrated")
    if raw is not None:
        return raw.stream(_XYZ, None), None, gyro_of
    if own is not None:
        return own.stream(_XYZ, None), None, gyro_of
    raise RecordingError(f"{job.source}: there is no acceleration in this recording; choose it in the app")


def _is_flipped(
    tables: dict[str, _Rows], accel: Stream, gravity: Stream | None, metadata: dict[str, str], notes: list[str]
) -> bool:
    """Tell whether acceleration has iOS's sign: by the orientation, else by what the app says, else by the unit."""
    by_orientation = _sign_by_orientation(tables, gravity or accel)
    if by_orientation is not None:
        return by_orientation < 0
    platform = (metadata.get("platform") or metadata.get("device platform") or "").lower()
    standardised = metadata.get("standardisation", "").lower() in ("true", "1", "yes")
    if platform:
        return platform.startswith(("ios", "iphone", "ipad", "watchos")) and not standardised
    steady = float(np.nanmedian(np.linalg.norm((gravity or accel).values, axis=1)))
    if units.accel_unit(steady, 1.0) == "g":
        return True  # only what iOS does not standardise is in g
    if "TotalAcceleration" not in tables:
        notes.append(
            "nothing tells iOS from Android (no Metadata, no Orientation): the signs are taken as Android's; if an iPhone "
            "wrote this, switch on 'Standardise Units & Frames' or flip the axes in a mapping file"
        )
    return False


def _sign_by_orientation(tables: dict[str, _Rows], steady: Stream) -> int | None:
    """Compare gravity with where the orientation says that up is: 1 alike, -1 opposite, None where neither is sure."""
    rows = tables.get("Orientation") or tables.get("WristMotion")
    if rows is None:
        return None
    names = ("qw", "qx", "qy", "qz") if "qw" in rows else ("quaternionW", "quaternionX", "quaternionY", "quaternionZ")
    if not set(names) <= set(rows):
        return None
    w, x, y, z = (rows[n] for n in names)
    # The world's up in the device's axes: third row of the rotation's matrix.
    up = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
    at = np.clip(np.searchsorted(rows["time_ns"], steady.time_ns), 0, len(up) - 1)
    length = np.linalg.norm(steady.values, axis=1)
    agreement = float(np.nanmedian((up[at] * steady.values).sum(axis=1) / np.maximum(length, 1e-9)))
    return None if abs(agreement) < 0.5 else (1 if agreement > 0 else -1)


def _labels(file: File, accel: Stream) -> TextArray | None:
    """Labels from annotations: each lasts until the next; before the first there is none."""
    table = read_table(file)
    if not len(table) or "text" not in table.names:
        return None
    times, texts = table.time_ns("time", "ns"), table.text("text")
    order = np.argsort(times, kind="stable")
    place = np.searchsorted(times[order], accel.time_ns, side="right") - 1
    return np.where(place < 0, "", texts[order][np.maximum(place, 0)])


FORMAT = Format("sensor-logger", claim, read, Provenance("Sensor Logger"))
