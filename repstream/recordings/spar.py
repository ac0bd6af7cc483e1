"""The SPAR shoulder exercises as recordings; imports recording and errors.

140 recordings: 10 subjects, both wrists, 7 exercises, 50 Hz. The data come with the package
seglearn (BSD-3); the study is Burns et al., "Shoulder physiotherapy exercise recognition",
Physiol. Meas. 39 (2018), arXiv 1802.01489.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from repstream.errors import RecordingError
from repstream.recordings.axes import Side
from repstream.recordings.recording import Recording

RATE_HZ = 50.0
# The file is a pickle: it is read only if it is the one in seglearn 1.2.5, and makes arrays and nothing else.
SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
PROVENANCE = {
    "source": "watch_dataset.npy of seglearn 1.2.5",
    "sha256": SHA256,
    "format": "spar",
    "licence": "BSD-3-Clause",
}
_PICKLED = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
}
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


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Look up what a pickle names, where that is how numpy makes an array."""
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


@functools.cache
def _load() -> dict[str, Any]:
    path = data_file()
    cure = "install it anew: pip install --force-reinstall --no-deps seglearn==1.2.5"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: the SPAR recordings cannot be read ({error.strerror}); {cure}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise RecordingError(f"{path}: its SHA-256 is not that of the SPAR recordings, and it is not read; {cure}")
    return _arrays(content)


def _arrays(content: bytes) -> dict[str, Any]:
    """Read an ``.npy`` file that holds a dict of lists and arrays, without making anything else."""
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    loaded: dict[str, Any] = _ArraysOnly(stream).load().item()
    return loaded


@functools.cache
def recordings() -> tuple[Recording, ...]:
    """All recordings, ordered by subject, side and exercise as they stand in the data.

    Accelerations are in g as they are; angular rates come in rad/s and leave in °/s.

    Raises
    ------
    RecordingError
        Where seglearn is not installed, or its data are not those of release 1.2.5.
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
                provenance=PROVENANCE,
            )
        )
    return tuple(sorted(found, key=lambda r: (r.subject, r.side)))
