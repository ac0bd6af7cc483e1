"""MotionSense's device motion: ``<activity>_<number>/sub_<person>.csv``, an iPhone's, 50 Hz, g and rad/s, no clock.

Malekzadeh et al., Mobile sensor data anonymization, IoTDI 2019.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import header_of, read_table
from repstream.recordings.imports.tree import File

_PLACE = re.compile(r"(?:^|/)(?P<activity>[a-z]+)_(?P<trial>\d+)/sub_(?P<person>\d+)\.csv$")
_ACTIVITIES = {
    "dws": "downstairs",
    "ups": "upstairs",
    "sit": "sitting",
    "std": "standing",
    "wlk": "walking",
    "jog": "jogging",
}
_ACCEL = ("userAcceleration.x", "userAcceleration.y", "userAcceleration.z")
_GRAVITY = ("gravity.x", "gravity.y", "gravity.z")
_GYRO = ("rotationRate.x", "rotationRate.y", "rotationRate.z")


def claim(files: Sequence[File]) -> list[Job]:
    """Find the files whose place and header are MotionSense's."""
    return [
        Job("motionsense", str(f), (f,))
        for f in files
        if _PLACE.search(f.relative) and {*_ACCEL, *_GRAVITY, *_GYRO} <= set(header_of(f))
    ]


def read(job: Job) -> Iterator[RawSession]:
    """Read one person's go at one activity."""
    file = job.files[0]
    match = _PLACE.search(file.relative)
    assert match is not None
    table = read_table(file)
    time_ns = np.arange(len(table), dtype=np.int64) * 20_000_000
    person, trial = int(match["person"]), int(match["trial"])
    yield RawSession(
        source=str(file),
        accel=Stream(time_ns, table.axes(_ACCEL) + table.axes(_GRAVITY), "g"),
        gyro=Stream(time_ns, table.axes(_GYRO), "rad/s"),
        subject=f"{person:02d}",
        session=f"motionsense-{person:02d}-{match['activity']}-{trial:02d}",
        device=f"motionsense-{person:02d}",
        flipped=True,
        labels=np.full(len(table), _ACTIVITIES.get(match["activity"], match["activity"])),
        rate_hz=50.0,
    )


FORMAT = Format(
    "motionsense",
    claim,
    read,
    Provenance("MotionSense", "github.com/mmalekzadeh/motion-sense", "ODbL 1.0, as its authors state"),
)
