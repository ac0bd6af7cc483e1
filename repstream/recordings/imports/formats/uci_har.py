"""UCI HAR's inertial signals: windows of 128 samples, each half of the one before, put together to sessions again.

Anguita et al., A public domain dataset for human activity recognition using smartphones, ESANN 2013.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from repstream.arrays import FloatArray
from repstream.errors import RecordingError
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import read_table
from repstream.recordings.imports.tree import File

_ACTIVITIES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
_SIGNALS = tuple(f"{sensor}_{axis}" for sensor in ("total_acc", "body_gyro") for axis in "xyz")
_FIRST = re.compile(r"^total_acc_x_(?P<split>train|test)\.txt$")
_HALF = 64


def claim(files: Sequence[File]) -> list[Job]:
    """Find the nine files of each split that are needed."""
    jobs = []
    for file in files:
        match = _FIRST.search(file.name)
        if match is None:
            continue
        split = match["split"]
        parent = file.folder.rpartition("/")[0]
        wanted = [f"{file.folder}/{signal}_{split}.txt".lstrip("/") for signal in _SIGNALS]
        wanted += [f"{parent}/{name}_{split}.txt".lstrip("/") for name in ("subject", "y")]
        found = tuple(f for place in wanted for f in files if f.relative == place and f.archive == file.archive)
        root = parent.rpartition("/")[0]
        jobs.append(Job("uci-har", str(file), found, {"split": split}, (f"{root}/" if root else f"{parent}/",)))
    return jobs


def read(job: Job) -> Iterator[RawSession]:
    """Read one split's sessions: runs of windows of which each begins with the second half of the one before."""
    split = job.about["split"]
    by_name = {f.name: f for f in job.files}
    names = [f"{signal}_{split}.txt" for signal in _SIGNALS]
    for name in (*names, f"subject_{split}.txt", f"y_{split}.txt"):
        if name not in by_name:
            raise RecordingError(f"{job.source}: there is no {name} with it; fetch the data set again")
    windows = np.stack([_rows(by_name[name]) for name in names], axis=-1)
    subjects = _rows(by_name[f"subject_{split}.txt"])[:, 0].astype(int)
    activities = _rows(by_name[f"y_{split}.txt"])[:, 0].astype(int)
    if not (len(windows) == len(subjects) == len(activities)):
        raise RecordingError(
            f"{job.source}: {len(windows)} windows, {len(subjects)} subjects and {len(activities)} activities; fetch the data "
            "set again"
        )
    if activities.size and not 1 <= activities.min() <= activities.max() <= len(_ACTIVITIES):
        raise RecordingError(f"{job.source}: activities must be 1 to {len(_ACTIVITIES)}; fetch the data set again")
    goes_on = (windows[1:, :_HALF] == windows[:-1, _HALF:]).all(axis=(1, 2)) & (subjects[1:] == subjects[:-1])
    starts = [0, *(np.flatnonzero(~goes_on) + 1).tolist()]
    numbers: dict[int, int] = {}
    for start, end in zip(starts, [*starts[1:], len(windows)], strict=True):
        subject = int(subjects[start])
        numbers[subject] = numbers.get(subject, 0) + 1
        values = np.concatenate([windows[start:end, :_HALF].reshape(-1, 6), windows[end - 1, _HALF:]])
        # A half stands in two windows; where their activities differ the later one is right, as it starts there.
        of_half = np.append(activities[start:end], activities[end - 1])
        labels = np.repeat(np.array([_ACTIVITIES[a - 1] for a in of_half]), _HALF)
        time_ns = np.arange(len(values), dtype=np.int64) * 20_000_000
        yield RawSession(
            source=f"{job.source} (windows {start + 1}–{end})",
            accel=Stream(time_ns, values[:, :3], "g"),
            gyro=Stream(time_ns, values[:, 3:], "rad/s"),
            subject=f"{subject:02d}",
            session=f"har-{split}-{subject:02d}-{numbers[subject]:03d}",
            device=f"har-{split}-{subject:02d}",
            labels=labels,
            rate_hz=50.0,
        )


def _rows(file: File) -> FloatArray:
    table = read_table(file, delimiter=" ")
    return np.stack([table.numbers(name) for name in table.names], axis=1)


FORMAT = Format("uci-har", claim, read, Provenance("UCI HAR", "archive.ics.uci.edu, data set 240", "CC BY 4.0"))
