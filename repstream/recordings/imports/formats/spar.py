"""SPAR as its authors publish it: ``S<person>_E<exercise>_<L|R>.csv``, 50 Hz, g and rad/s, no clock.

Burns et al., Shoulder physiotherapy exercise recognition: machine learning the inertial signals from a smartwatch,
Physiological Measurement 39 (2018).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from repstream.recordings.axes import Side
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.text_table import header_of, read_table
from repstream.recordings.imports.tree import File

_NAME = re.compile(r"S(?P<person>\d+)_E(?P<exercise>\d+)_(?P<side>[LR])\.csv$", re.IGNORECASE)
_COLUMNS = ("ax", "ay", "az", "wx", "wy", "wz")
_EXERCISES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
_STEP_NS = 20_000_000


def claim(files: Sequence[File]) -> list[Job]:
    """Find the files whose name and header are SPAR's."""
    return [Job("spar", str(f), (f,)) for f in files if _NAME.search(f.name) and set(_COLUMNS) <= set(header_of(f))]


def read(job: Job) -> Iterator[RawSession]:
    """Read one person's exercise of one side."""
    file = job.files[0]
    match = _NAME.search(file.name)
    assert match is not None
    table = read_table(file)
    exercise = int(match["exercise"])
    label = _EXERCISES[exercise] if exercise < len(_EXERCISES) else f"E{exercise}"
    side: Side = "left" if match["side"].upper() == "L" else "right"
    device = f"spar-s{int(match['person']):02d}-{side}"
    time_ns = np.arange(len(table), dtype=np.int64) * _STEP_NS
    yield RawSession(
        source=str(file),
        accel=Stream(time_ns, table.axes(_COLUMNS[:3]), "g"),
        gyro=Stream(time_ns, table.axes(_COLUMNS[3:]), "rad/s"),
        subject=f"s{int(match['person']):02d}",
        session=f"{device}-{label}-1",
        device=device,
        side=side,
        labels=np.full(len(table), label),
        rate_hz=50.0,
    )


FORMAT = Format(
    "spar",
    claim,
    read,
    Provenance(
        "SPAR: shoulder physiotherapy exercises",
        "github.com/dmbee/SPAR-dataset",
        "GPL-3.0 (the part of it in seglearn: BSD-3-Clause)",
    ),
)
