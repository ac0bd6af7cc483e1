"""MetaMotion: a table of the accelerometer and one of the gyroscope, what they are of in their names.

Names are ``<what>_MetaWear_<time>_<device>_Accelerometer_<rate>Hz_<version>.csv``; where ``<what>`` has parts between
hyphens, as in ``A-bench-heavy1``, the first is the subject and the second the label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from repstream.errors import RecordingError
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import header_of, read_table
from repstream.recordings.imports.tree import File

_NAME = re.compile(
    r"^(?P<what>.*?)_?(?:MetaWear|MetaMotion\w*|MetaBase)?_(?P<time>\d{4}-\d\d-\d\dT[\d.]+)_(?P<device>[0-9A-F]{12})_"
    r"(?P<sensor>Accelerometer|Gyroscope)_(?P<rest>.*)\.csv$",
    re.IGNORECASE,
)
_UNITS = {"g": "g", "deg/s": "deg/s", "rad/s": "rad/s", "m/s^2": "m/s2", "m/s2": "m/s2"}


def claim(files: Sequence[File]) -> list[Job]:
    """Pair the sensors of one recording."""
    pairs: dict[tuple[str, ...], dict[str, File]] = {}
    for file in files:
        match = _NAME.match(file.name)
        if match is None or not any(n.startswith("x-axis") for n in header_of(file)):
            continue
        key = (file.folder, match["what"], match["time"], match["device"].upper())
        pairs.setdefault(key, {})[match["sensor"].lower()] = file
    jobs = []
    for (_, what, time, device), found in pairs.items():
        if "accelerometer" in found:
            files_of = (found["accelerometer"], *([found["gyroscope"]] if "gyroscope" in found else []))
            jobs.append(Job("metamotion", str(files_of[0]), files_of, {"what": what, "time": time, "device": device}))
    return jobs


def read(job: Job) -> Iterator[RawSession]:
    """Read one recording."""
    streams = [_stream(file) for file in job.files]
    what = job.about["what"].strip("_-") or job.about["time"]
    subject, *others = what.split("-")
    label = others[0] if others else ""
    yield RawSession(
        source=job.source,
        accel=streams[0],
        gyro=streams[1] if len(streams) > 1 else None,
        subject=subject if others else "unknown",
        session=f"{what}-{job.about['time']}".replace(":", "."),
        device=job.about["device"],
        labels=np.full(len(streams[0].time_ns), label) if label else None,
    )


def _stream(file: File) -> Stream:
    table = read_table(file)
    by_axis = {name[0].lower(): name for name in table.names if re.match(r"^[xyz]-axis", name)}
    epoch = next((n for n in table.names if n.lower().startswith(("epoch", "timestamp"))), None)
    if set(by_axis) != set("xyz") or epoch is None:
        raise RecordingError(
            f"{file}: an epoch and x-, y- and z-axis are needed; it has {', '.join(map(repr, table.names[:20]))}"
        )
    unit = re.search(r"\((.*)\)", by_axis["x"])
    said = re.search(r"\((s|ms|us|ns)\)", epoch)
    return Stream(
        table.time_ns(epoch, said[1] if said else None),
        table.axes((by_axis["x"], by_axis["y"], by_axis["z"])),
        _UNITS.get(unit[1].lower()) if unit else None,
    )


FORMAT = Format("metamotion", claim, read, Provenance("MetaMotion"))
