"""Windows of many recordings as arrays to train and test on."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repstream.arrays import BoolArray, FloatArray, IntArray, SideArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.axes import SIDE_CODES
from repstream.recordings.recording import Recording
from repstream.recordings.splits import group_of
from repstream.windows.cut import cut
from repstream.windows.grid import GRID_HZ
from repstream.windows.share import WHOLE
from repstream.windows.truth import lost_labels


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled windows.

    Attributes
    ----------
    windows : ndarray, shape (n_windows, 6, window)
    sides : ndarray of int8, shape (n_windows,)
        `SIDE_CODES`.
    labels, subjects, groups, recordings : ndarrays of str, shape (n_windows,)
        `groups` are what is left out together: subjects, sessions or days.
    index : ndarray of int, shape (n_windows,)
        Number of the window in its recording.
    """

    windows: FloatArray
    sides: SideArray
    labels: TextArray
    subjects: TextArray
    groups: TextArray
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
            self.groups[rows],
            self.recordings[rows],
            self.index[rows],
        )


def build_dataset(
    recordings: Sequence[Recording], window: int, hop: int, label_share: float = WHOLE, by: str = "subject"
) -> Dataset:
    """Cut labelled recordings into windows.

    Parameters
    ----------
    recordings : sequence of Recording
    window, hop : int
        Samples, at 50 Hz.
    label_share : float
        Share of a window's samples that need one label.
    by : str
        What a window's group is: see `repstream.recordings.splits.group_of`.

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
    parts = [(r, cut(r, window, hop, label_share)) for r in recordings]
    counts = [len(w.index) for _, w in parts]
    if not sum(counts):
        raise RecordingError(f"no recording holds a window of {window} samples ({window / GRID_HZ:.2f} s)")
    return Dataset(
        windows=np.concatenate([w.values for _, w in parts]),
        sides=np.repeat(np.array([SIDE_CODES[r.side] for r, _ in parts], dtype=np.int8), counts),
        labels=np.concatenate([w.labels for _, w in parts if w.labels is not None]),
        subjects=np.repeat([r.subject for r, _ in parts], counts),
        groups=np.repeat([group_of(r, by) for r, _ in parts], counts),
        recordings=np.repeat([r.name for r, _ in parts], counts),
        index=np.concatenate([w.index for _, w in parts]),
    )


def count_windows(data: Dataset) -> dict[str, int]:
    """Count the windows of each label, the commonest first."""
    return {str(label): n for label, n in Counter(data.labels.tolist()).most_common()}


def check_labels(
    recordings: Sequence[Recording], data: Dataset, window: int, hop: int, label_share: float, least_window: int
) -> None:
    """Refuse labels of which no window is left: a model would never learn them, and nobody would know.

    Parameters
    ----------
    recordings : sequence of Recording
        That `data` was made of, with
    window, hop, label_share
        these.
    least_window : int
        Fewest samples that the features can be computed of.

    Raises
    ------
    RecordingError
        Naming the labels, and the window or share that would keep them.
    """
    lost = lost_labels(recordings, data.labels.tolist())
    if not lost:
        return
    longest = {label: _longest(recordings, label) for label in lost}
    shortest = min(longest.values())
    theirs = [r for r in recordings if not set(lost).isdisjoint(label for _, _, label in r.label_intervals())]

    def keeps(window: int, label_share: float) -> bool:
        kept = {label for r in theirs for label in cut(r, window, hop, label_share).labels.tolist()}  # type: ignore[union-attr]
        return kept.issuperset(lost)

    cures = []
    # A window that begins within a hop of the stretch's beginning lies in it.
    windows = (n for n in range(min(shortest - hop + 1, window), least_window - 1, -5) if keeps(n, label_share))
    if enough := next(windows, None):
        cures.append(f"--window {enough}")
    most = math.floor(100 * min(shortest, window) / window)
    shares = (n / 100 for n in range(min(most, 99), 50, -5) if keeps(window, n / 100))
    if share := next(shares, None):
        cures.append(f"--label-share {share:.2f}")
    cures.append("leave them out with " + " ".join(f"--drop-label {shlex.quote(label)}" for label in lost))
    told = ", ".join(f"{label} (longest stretch: {n} samples, {n / GRID_HZ:.2f} s)" for label, n in longest.items())
    raise RecordingError(
        f"no window of {window} samples ({window / GRID_HZ:.2f} s) holds enough of {told}; use {', or '.join(cures)}"
    )


def _longest(recordings: Sequence[Recording], label: str) -> int:
    """Length of a label's longest interval in samples of the grid."""
    found = [0]
    for recording in recordings:
        times_s = recording.times_us / 1e6
        for first, last, name in recording.label_intervals():
            if name == label:
                found.append(math.floor(float(times_s[last] - times_s[first]) * GRID_HZ + 1e-6) + 1)
    return max(found)
