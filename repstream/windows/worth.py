"""What recordings are worth, with their windows and copies: one check for command and page; imports cut and quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from repstream.recordings.quality import Quality, examine, find_copies
from repstream.recordings.recording import Recording
from repstream.windows.cut import WINDOW_SAMPLES, cut
from repstream.windows.grid import GRID_HZ
from repstream.windows.truth import lost_labels

NO_LABEL = "(no label)"
"""Counts the windows that have no truth."""


def assess(recordings: Sequence[Recording], window: int = WINDOW_SAMPLES) -> list[Quality]:
    """Examine recordings, count each label's windows, and find copies among them.

    Parameters
    ----------
    recordings : sequence of Recording
    window : int
        Samples per window, at 50 Hz; windows are counted without overlap.

    Returns
    -------
    list of Quality
        In the order of the recordings.
    """
    copies = find_copies(recordings) if len(recordings) > 1 else {}
    found = [_assess(recording, window) for recording in recordings]
    for one in found:
        one.copies = copies.get(one.name, [])
    return found


def _assess(recording: Recording, window: int) -> Quality:
    one = examine(recording)
    windows = cut(recording, window, window)
    labels = windows.labels.tolist() if windows.labels is not None else [""] * len(windows.index)
    one.windows = dict(sorted(Counter(label or NO_LABEL for label in labels).items()))
    if lost := lost_labels([recording], one.windows):
        one.remarks.append(
            f"no whole window of {window} samples ({window / GRID_HZ:.2f} s) holds only {', '.join(lost)}"
        )
    return one
