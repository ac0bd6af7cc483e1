"""Sliding windows on a session's 50 Hz grid; imports grid, truth and recording.

Window ``k`` is the grid positions ``k * hop`` to ``k * hop + window - 1``, whatever came before it:
the same window has the same number in stream, batch and after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from repstream.arrays import FloatArray, IntArray, SideArray, TextArray
from repstream.recordings.axes import SIDE_CODES
from repstream.recordings.recording import Recording
from repstream.windows.grid import GRID_HZ, GridResampler, Run
from repstream.windows.share import WHOLE
from repstream.windows.truth import labels_of

WINDOW_SAMPLES = 151
HOP_SAMPLES = 25


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
        Each window's truth (see `repstream.windows.truth`); ``""`` where it has none.
    sides : ndarray, shape (n_windows,)
        `SIDE_CODES` of the wrist.
    """

    values: FloatArray
    index: IntArray
    start_s: FloatArray
    end_s: FloatArray
    labels: TextArray | None
    sides: SideArray


def runs_of(recording: Recording) -> list[Run]:
    """A whole recording on its grid, as maximal unbroken runs."""
    runs = GridResampler(recording.rate_hz).push(recording.times_us, recording.values)
    return [run for run in runs if len(run.values)]


def windows_in(run: Run, window: int, hop: int) -> tuple[list[int], FloatArray]:
    """Cut a run into windows.

    Returns
    -------
    list of int
        The windows' numbers.
    ndarray, shape (n_windows, n_columns, window)
        As `gather` returns them.
    """
    end = run.start + len(run.values)
    ks = list(range(first_index(run.start, hop), (end - window) // hop + 1))
    return ks, gather(run.values, [k * hop - run.start for k in ks], window)


def _times_s(runs: list[Run], positions: IntArray) -> FloatArray:
    """Times of grid positions within runs, s from the recording's first sample."""
    line = np.array([piece for run in runs for piece in run.line], dtype=np.int64).reshape(-1, 2)
    offsets_us = line[np.searchsorted(line[:, 0], positions, side="right") - 1, 1]
    times: FloatArray = positions / GRID_HZ + offsets_us / 1e6
    return times


def cut(
    recording: Recording, window: int = WINDOW_SAMPLES, hop: int = HOP_SAMPLES, label_share: float = WHOLE
) -> WindowSet:
    """Cut a recording into windows as the stream does.

    Parameters
    ----------
    recording : Recording
    window, hop : int
        Samples of the 50 Hz grid; both at least 1.
    label_share : float
        Share of a window's samples that need one label, above 0 and at most 1.

    Returns
    -------
    WindowSet
        Empty where the recording holds no whole window.

    Raises
    ------
    SettingsError
        Where the share is not above 0 and at most 1.

    Examples
    --------
    >>> import repstream
    >>> (recording,) = repstream.load_recordings("spar/s08-left-ROW-1")
    >>> windows = repstream.cut_windows(recording, hop=151)
    >>> windows.values.shape, windows.index[:3].tolist(), windows.labels[:1].tolist()
    ((10, 6, 151), [0, 1, 2], ['ROW'])
    """
    pieces: list[FloatArray] = []
    numbers: list[int] = []
    runs = runs_of(recording)
    for run in runs:
        ks, windows = windows_in(run, window, hop)
        pieces.append(windows)
        numbers += ks
    index = np.array(numbers, dtype=np.int64)
    values = np.concatenate(pieces) if pieces else np.empty((0, 6, window))
    start_s, end_s = _times_s(runs, index * hop), _times_s(runs, index * hop + window - 1)
    labels = None
    if recording.labels is not None:
        timeline = labels_of(recording, label_share)
        bounds = zip(start_s.tolist(), end_s.tolist(), strict=True)
        labels = np.array([timeline.truth(*both) or "" for both in bounds], dtype=np.str_)
    return WindowSet(
        values,
        index,
        start_s,
        end_s,
        labels,
        np.full(len(index), SIDE_CODES[recording.side], dtype=np.int8),
    )
