"""UCI HAPT's raw data: ``acc_exp<E>_user<U>.txt`` and ``gyro_…``, 50 Hz, g and rad/s, with labels in a table of intervals.

Reyes-Ortiz et al., Transition-aware human activity recognition using smartphones, Neurocomputing 171 (2016).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from repstream.errors import RecordingError
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import read_table
from repstream.recordings.imports.tree import File

_NAME = re.compile(r"(?P<sensor>acc|gyro)_exp(?P<experiment>\d+)_user(?P<user>\d+)\.txt$")
_ACTIVITIES = (
    *("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING"),
    *("STAND_TO_SIT", "SIT_TO_STAND", "SIT_TO_LIE", "LIE_TO_SIT", "STAND_TO_LIE", "LIE_TO_STAND"),
)
_RATE_HZ = 50.0


def claim(files: Sequence[File]) -> list[Job]:
    """Pair acceleration and angular rate of each experiment."""
    by_place = {f.relative: f for f in files}
    jobs = []
    for file in files:
        match = _NAME.search(file.name)
        if match is None or match["sensor"] != "acc":
            continue
        below = f"{file.folder}/" if file.folder else ""
        others = [by_place.get(below + file.name.replace("acc_", "gyro_")), by_place.get(below + "labels.txt")]
        jobs.append(Job("uci-hapt", str(file), (file, *(f for f in others if f is not None)), owns=(file.folder,)))
    return jobs


def read(job: Job) -> Iterator[RawSession]:
    """Read one experiment."""
    file = job.files[0]
    match = _NAME.search(file.name)
    assert match is not None
    gyro = next((f for f in job.files if f.name.startswith("gyro_")), None)
    if gyro is None:
        raise RecordingError(
            f"{file}: there is no {file.name.replace('acc_', 'gyro_')} beside it; fetch the data set again"
        )
    accel_rows = read_table(file, names=["x", "y", "z"], delimiter=" ").axes(("x", "y", "z"))
    gyro_rows = read_table(gyro, names=["x", "y", "z"], delimiter=" ").axes(("x", "y", "z"))
    n = min(len(accel_rows), len(gyro_rows))
    time_ns = np.arange(n, dtype=np.int64) * 20_000_000
    experiment, user = int(match["experiment"]), int(match["user"])
    raw = RawSession(
        source=str(file),
        accel=Stream(time_ns, accel_rows[:n], "g"),
        gyro=Stream(time_ns, gyro_rows[:n], "rad/s"),
        subject=f"{user:02d}",
        session=f"hapt-{experiment:02d}-{user:02d}",
        device=f"hapt-user{user:02d}",
        rate_hz=_RATE_HZ,
    )
    labels = next((f for f in job.files if f.name == "labels.txt"), None)
    if labels is not None:
        table = read_table(labels, names=["experiment", "user", "activity", "first", "last"], delimiter=" ")
        rows = np.stack([table.numbers(n) for n in table.names], axis=1).astype(int)
        for _, _, activity, first, last in rows[(rows[:, 0] == experiment) & (rows[:, 1] == user)]:
            name = _ACTIVITIES[activity - 1] if 1 <= activity <= len(_ACTIVITIES) else str(activity)
            raw.intervals.append(((first - 1) / _RATE_HZ, (last - 1) / _RATE_HZ, name))
    yield raw


FORMAT = Format(
    "uci-hapt",
    claim,
    read,
    Provenance("UCI HAPT", "archive.ics.uci.edu, data set 341", "CC BY 4.0"),
)
