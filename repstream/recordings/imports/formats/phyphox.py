"""phyphox: a folder or zip with one table for each sensor, its unit in the header; both dialects of CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from repstream.errors import RecordingError
from repstream.recordings.imports.clock import MISSING_NS
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import header_of, read_table
from repstream.recordings.imports.tree import File

# In the phone's language.
_TIME = re.compile(r"^[^\W\d]+ \((?P<unit>s|ms)\)$", re.IGNORECASE)
_AXIS = re.compile(r"^(?:.*\b)?(?P<axis>[xyz]) \((?P<unit>m/s\^2|m/s²|rad/s|g|deg/s|°/s)\)$", re.IGNORECASE)
_UNITS = {"m/s^2": "m/s2", "m/s²": "m/s2", "g": "g", "rad/s": "rad/s", "deg/s": "deg/s", "°/s": "deg/s"}
_ACCEL, _GYRO = "accel", "gyro"
# What the app notes of when it was started and paused.
_NOTES = "meta/time.csv"
_EVENT, _RUNNING_S, _EPOCH_S = "event", "experiment time", "system time"


def claim(files: Sequence[File]) -> list[Job]:
    """Put the tables of one folder together."""
    folders: dict[tuple[Path | None, str], dict[str, File]] = {}
    for file in files:
        kind = _kind(file)
        if kind is not None:
            folders.setdefault((file.archive, file.folder), {})[kind] = file
    notes = {(f.archive, f.folder.removesuffix("meta").rstrip("/")): f for f in files if f.relative.endswith(_NOTES)}
    jobs = []
    for place, found in folders.items():
        # Linear acceleration is without gravity: worth something only where there is nothing better.
        accel = found.get(_ACCEL) or found.get("linear")
        if accel is not None:
            tables = {_ACCEL: accel} | ({_GYRO: found[_GYRO]} if _GYRO in found else {})
            read = (*tables.values(), *([notes[place]] if place in notes else []))
            jobs.append(Job("phyphox", str(accel), read, {"folder": accel.folder}, _owned(accel.folder)))
    return jobs


def _owned(folder: str) -> tuple[str, ...]:
    return (folder, f"{folder}/meta/".lstrip("/"))


def _kind(file: File) -> str | None:
    if file.ending not in (".csv", ".tsv", ".txt"):
        return None
    names = header_of(file)
    axes = [m for name in names if (m := _AXIS.match(name))]
    if not names or not _TIME.match(names[0]) or [m["axis"].lower() for m in axes] != ["x", "y", "z"]:
        return None
    if _UNITS[axes[0]["unit"].lower()] in ("rad/s", "deg/s"):
        return _GYRO
    return "linear" if "linear" in (file.name + " ".join(names)).lower() else _ACCEL


def read(job: Job) -> Iterator[RawSession]:
    """Read one recording."""
    notes = [file for file in job.files if file.relative.endswith(_NOTES)]
    epoch_ns = _epoch_ns(notes[0]) if notes else 0
    streams = [_stream(file, epoch_ns) for file in job.files if file not in notes]
    accel = job.files[0]
    session = (job.about["folder"] or accel.disk.stem).replace("/", "-") or accel.stem
    yield RawSession(
        source=job.source,
        accel=streams[0],
        gyro=streams[1] if len(streams) > 1 else None,
        session=session,
        device=session,
    )


def _epoch_ns(notes: File) -> int:
    """When the clock of the tables was 0, in ns since 1970; 0 where the app did not note it (older versions)."""
    table = read_table(notes)
    if not {_EVENT, _RUNNING_S, _EPOCH_S} <= set(table.names):
        return 0
    starts = np.flatnonzero(np.array(table.text(_EVENT)) == "START")
    if not len(starts):
        return 0
    began_s = float(table.numbers(_EPOCH_S)[starts[0]] - table.numbers(_RUNNING_S)[starts[0]])
    return round(began_s * 1e6) * 1_000 if np.isfinite(began_s) else 0


def _stream(file: File, epoch_ns: int) -> Stream:
    table = read_table(file)
    time = table.names[0]
    match = _TIME.match(time)
    assert match is not None
    by_axis = {m["axis"].lower(): (name, m["unit"].lower()) for name in table.names if (m := _AXIS.match(name))}
    if set(by_axis) != set("xyz"):
        raise RecordingError(f"{file}: there are columns of {', '.join(sorted(by_axis))} alone; x, y and z are needed")
    names = (by_axis["x"][0], by_axis["y"][0], by_axis["z"][0])
    time_ns = table.time_ns(time, match["unit"].lower())
    time_ns = np.where(time_ns == MISSING_NS, MISSING_NS, time_ns + epoch_ns)
    return Stream(time_ns, table.axes(names), _UNITS[by_axis["x"][1]])


FORMAT = Format("phyphox", claim, read, Provenance("phyphox"))
