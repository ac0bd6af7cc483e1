"""Sliding windows on a session's 50 Hz grid; imports grid and recording.

Window ``k`` is the grid positions ``k * hop`` to ``k * hop + window - 1``, whatever came before it:
the same window has the same number in stream, batch and after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repstream.grid import GRID_HZ, GRID_US, GridResampler, Run
from repstream.recording import SIDE_CODES, FloatArray, IntArray, Recording, SideArray

WINDOW_SAMPLES = 151
HOP_SAMPLES = 25

TRANSITION = "Transition"
"""Label of a window whose samples do not all share one."""


def first_index(position: int, hop: int) -> int:
    """Return the first window that starts at or after a grid position."""
    return -(-position // hop)


def gather(values: FloatArray, starts: IntArray | list[int], window: int) -> FloatArray:
    """Cut windows out of one array of samples.

    Parameters
    ----------
    values : ndarray, shape (n_samples, 6)
    starts : sequence of int, length n_windows
    window : int
        Samples a window.

    Returns
    -------
    ndarray, shape (n_windows, 6, window)
        In memory sample by sample, as in `values`.
    """
    if not len(starts):
        return np.empty((0, values.shape[1], window))
    views = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
    windows: FloatArray = views[np.asarray(starts)]
    return windows


@dataclass(frozen=True, eq=False)
class WindowSet:
    """All windows of one recording.

    Attributes
    ----------
    values : ndarray, shape (n_windows, 6, window)
    index : ndarray, shape (n_windows,)
    start_s, end_s : ndarray, shape (n_windows,)
        Times of the first and last sample, s from the recording's first sample.
    labels : ndarray of str, shape (n_windows,), or None
        The one label that all samples share, else `TRANSITION`.
    sides : ndarray, shape (n_windows,)
        `SIDE_CODES` of the wrist.
    """

    values: FloatArray
    index: IntArray
    start_s: FloatArray
    end_s: FloatArray
    labels: npt.NDArray[np.str_] | None
    sides: SideArray


def runs_of(recording: Recording) -> list[Run]:
    """A whole recording on its grid, as maximal unbroken runs."""
    runs = GridResampler(recording.rate_hz).push(recording.times_us, recording.values)
    return [run for run in runs if len(run.values)]


def cut(recording: Recording, window: int = WINDOW_SAMPLES, hop: int = HOP_SAMPLES) -> WindowSet:
    """Cut a recording into windows as the stream does.

    Parameters
    ----------
    recording : Recording
    window, hop : int
        Samples of the 50 Hz grid; both at least 1.

    Returns
    -------
    WindowSet
        Empty where the recording holds no whole window.
    """
    pieces: list[FloatArray] = []
    numbers: list[int] = []
    for run in runs_of(recording):
        end = run.start + len(run.values)
        ks = list(range(first_index(run.start, hop), (end - window) // hop + 1))
        pieces.append(gather(run.values, [k * hop - run.start for k in ks], window))
        numbers += ks
    index = np.array(numbers, dtype=np.int64)
    values = np.concatenate(pieces) if pieces else np.empty((0, 6, window))
    return WindowSet(
        values,
        index,
        index * hop / GRID_HZ,
        (index * hop + window - 1) / GRID_HZ,
        _labels(recording, index, window, hop),
        np.full(len(index), SIDE_CODES[recording.side], dtype=np.int8),
    )


def _labels(recording: Recording, index: IntArray, window: int, hop: int) -> npt.NDArray[np.str_] | None:
    if recording.labels is None:
        return None
    times = recording.times_us
    # 2 µs: a sample that the grid took as standing at a position belongs to that position.
    first = np.searchsorted(times, index * hop * GRID_US - 2, side="left")
    last = np.searchsorted(times, (index * hop + window - 1) * GRID_US + 2, side="right") - 1
    changes = np.concatenate(([0], np.cumsum(recording.labels[1:] != recording.labels[:-1])))
    same = changes[first] == changes[last]
    return np.where(same, recording.labels[first], TRANSITION)
