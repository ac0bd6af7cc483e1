"""The SPAR shoulder exercises as recordings; imports recording and errors.

140 recordings: 10 subjects, both wrists, 7 exercises, 50 Hz. The data come with the package
seglearn (BSD-3); the study is Burns et al., "Shoulder physiotherapy exercise recognition",
Physiol. Meas. 39 (2018), arXiv 1802.01489.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from repstream.errors import RecordingError
from repstream.recording import Recording, Side

RATE_HZ = 50.0
EXERCISES = {
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius extension",
    "ROW": "upright row",
}


def data_file() -> Path:
    """Find the data in the installed package seglearn, without importing it."""
    spec = importlib.util.find_spec("seglearn")
    if spec is None or not spec.submodule_search_locations:
        raise RecordingError(
            "the SPAR recordings come with the package seglearn, which is not installed; "
            "install the extra: pip install 'repstream[data]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "watch_dataset.npy"


@functools.cache
def _load() -> dict[str, Any]:
    # The file is a pickled dict, from the pinned package that the user installed.
    loaded: dict[str, Any] = np.load(data_file(), allow_pickle=True).item()
    return loaded


@functools.cache
def recordings() -> tuple[Recording, ...]:
    """All recordings, ordered by subject, side and exercise as they stand in the data.

    Accelerations are in g as they are; angular rates come in rad/s and leave in °/s.
    """
    data = _load()
    counts: dict[tuple[int, str, str], int] = {}
    found = []
    for values, label, subject, right in zip(data["X"], data["y"], data["subject"], data["side"], strict=True):
        side: Side = "right" if right else "left"
        exercise = data["y_labels"][int(label)]
        key = (int(subject), side, exercise)
        counts[key] = counts.get(key, 0) + 1
        name = f"s{int(subject):02d}-{side}-{exercise}-{counts[key]}"
        canonical = np.array(values, dtype=np.float64)
        canonical[:, 3:] *= 180.0 / np.pi
        found.append(
            Recording(
                name=f"spar/{name}",
                subject=f"s{int(subject):02d}",
                session=f"spar-{name}",
                device=f"spar-s{int(subject):02d}-{side}",
                time_s=np.arange(len(canonical)) / RATE_HZ,
                values=canonical,
                rate_hz=RATE_HZ,
                side=side,
                source="spar",
                labels=np.full(len(canonical), exercise),
            )
        )
    return tuple(sorted(found, key=lambda r: (r.subject, r.side)))
