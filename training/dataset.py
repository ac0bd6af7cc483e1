"""Windows of many recordings as arrays to train and test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repstream.arrays import BoolArray, FloatArray, IntArray, SideArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.axes import SIDE_CODES
from repstream.recordings.recording import Recording
from repstream.windows.cut import cut


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled windows.

    Attributes
    ----------
    windows : ndarray, shape (n_windows, 6, window)
    sides : ndarray of int8, shape (n_windows,)
        `SIDE_CODES`.
    labels, subjects, recordings : ndarrays of str, shape (n_windows,)
    index : ndarray of int, shape (n_windows,)
        Number of the window in its recording.
    """

    windows: FloatArray
    sides: SideArray
    labels: TextArray
    subjects: TextArray
    recordings: TextArray
    index: IntArray

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, rows: BoolArray) -> Dataset:
        """Return some of the windows."""
        return Dataset(
            self.windows[rows],
            self.sides[rows],
            self.labels[rows],
            self.subjects[rows],
            self.recordings[rows],
            self.index[rows],
        )


def build_dataset(recordings: Sequence[Recording], window: int, hop: int) -> Dataset:
    """Cut labelled recordings into windows.

    Raises
    ------
    RecordingError
        Where a recording has no labels, or none holds a window.
    """
    for recording in recordings:
        if recording.labels is None:
            raise RecordingError(
                f"{recording.path or recording.name}: it has no label column; training and evaluation need one "
                "(map it with: repstream recordings convert … --column label=NAME)"
            )
    parts = [(r, cut(r, window, hop)) for r in recordings]
    counts = [len(w.index) for _, w in parts]
    if not sum(counts):
        raise RecordingError(f"no recording holds a window of {window} samples ({window / 50:.2f} s)")
    return Dataset(
        windows=np.concatenate([w.values for _, w in parts]),
        sides=np.repeat(np.array([SIDE_CODES[r.side] for r, _ in parts], dtype=np.int8), counts),
        labels=np.concatenate([w.labels for _, w in parts if w.labels is not None]),
        subjects=np.repeat([r.subject for r, _ in parts], counts),
        recordings=np.repeat([r.name for r, _ in parts], counts),
        index=np.concatenate([w.index for _, w in parts]),
    )
