"""What a window's signal looks like, apart from what its wearer does; imports motion_shape and recording.

A model's features serve to tell exercises apart and may ignore what tells faults apart (a scale, a
stuck axis). These numbers serve the monitor to say what changed: it is the same for every model.
"""

from __future__ import annotations

import itertools

import numpy as np

from repstream.arrays import FloatArray, SideArray, SingleArray
from repstream.features.motion_shape import MIRROR, is_mirrored
from repstream.recordings.axes import AXES
from repstream.windows.grid import GRID_HZ

EVERY_S = 1.5
"""How often a session's predictions carry a summary, s of event time."""


_PER_AXIS = ("mean", "logsd", "min", "max", "repeats", "extremes", "roughness", "pace", "jerk")
_PAIRS = tuple(itertools.combinations(range(6), 2))
_I, _J = np.array(_PAIRS).T

NAMES = (
    *(f"{name}_{axis}" for name in _PER_AXIS for axis in AXES),
    *(f"corr_{AXES[i]}_{AXES[j]}" for i, j in _PAIRS),
    *(f"turn_{axis}" for axis in AXES[:3]),
    "turn",
    "turn_corr",
    "turn_log",
    "turn_ratio_log",
    "magnitude_median",
    "magnitude_mean",
    "magnitude_sd",
)
"""Names of the values, in their order."""

_FLOOR = np.array([1e-3] * 3 + [0.1] * 3, dtype=np.float32)  # g, °/s: what is stiller counts as still
_SMOOTH = 13  # samples, 0.26 s: gravity and slow turning pass, blows do not
_LARGEST = np.float32(1e6)  # g, °/s: beyond it nothing is told apart, and squares stay finite
_BLOCK = 32  # windows at a time stay in the cache


def every(hop: int) -> int:
    """Of so many windows one carries a summary, at a hop of `hop` samples."""
    return max(1, round(EVERY_S * GRID_HZ / hop))


def summarise(windows: FloatArray, sides: SideArray) -> SingleArray:
    """Summarise windows.

    Parameters
    ----------
    windows : ndarray, shape (n, 6, window)
        g and °/s at 50 Hz.
    sides : ndarray of int8, shape (n,)
        `SIDE_CODES`; right wrists are mirrored to look like left ones, as in motion-shape.

    Returns
    -------
    ndarray of float32, shape (n, len(NAMES))
        Per axis ``mean``, ``logsd`` (log of the deviation), ``min``, ``max`` (g, °/s), ``repeats`` (share of
        samples equal to the one before), ``extremes`` (share at the minimum, plus share at the maximum),
        ``pace`` and ``roughness`` (log of how much larger the first difference's deviation is than the
        signal's, and the second's than the first's), ``jerk`` (log of the second difference's deviation);
        ``corr_…`` correlations; ``turn…``: how gravity moves through the watch against how the gyroscope says
        that it turns (da/dt = -ω × a for a sensor that only turns), as slope by axis and in all, correlation,
        log of how much there is of it, log of the ratio; ``magnitude_…`` of the acceleration, g.
    """
    if not len(windows):
        return np.empty((0, len(NAMES)), dtype=np.float32)
    parts = [_block(windows[i : i + _BLOCK], sides[i : i + _BLOCK]) for i in range(0, len(windows), _BLOCK)]
    return np.concatenate(parts)


def _block(windows: FloatArray, sides: SideArray) -> SingleArray:
    # SingleArray precision halves the cost; nothing here needs more.
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(windows, dtype=np.float32)
    np.clip(x, -_LARGEST, _LARGEST, out=x)
    mirrored = is_mirrored(x[:, 0].mean(axis=-1), sides)
    x *= np.where(mirrored[:, None], MIRROR, 1.0)[..., None].astype(np.float32)
    n = x.shape[-1]
    mean = x.mean(axis=-1)
    covariance = x @ x.transpose(0, 2, 1) / n - mean[:, :, None] * mean[:, None, :]
    deviation = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
    low, high = x.min(axis=-1), x.max(axis=-1)
    step = x[..., 1:] - x[..., :-1]
    bend = step[..., 1:] - step[..., :-1]
    step_size, bend_size = _size(step), _size(bend)
    at_ends = np.count_nonzero(x == low[..., None], axis=-1) + np.count_nonzero(x == high[..., None], axis=-1)
    tenth = _FLOOR / 10.0
    columns = [
        mean,
        np.log(deviation + _FLOOR),
        low,
        high,
        np.count_nonzero(step == 0.0, axis=-1) / (n - 1),
        at_ends / n,
        np.log((bend_size + tenth) / (step_size + tenth)),
        np.log((step_size + tenth) / (deviation + tenth)),
        np.log(bend_size + _FLOOR),
        covariance[:, _I, _J] / (deviation[:, _I] * deviation[:, _J] + 1e-4),
        _turning(x),
        _magnitude(x[:, :3]),
    ]
    return np.concatenate(columns, axis=1)


def _size(x: SingleArray) -> SingleArray:
    """Root of the mean square over the last axis."""
    size: SingleArray = np.sqrt(np.einsum("nai,nai->na", x, x) / x.shape[-1])
    return size


def _turning(x: SingleArray) -> SingleArray:
    smooth = _smooth(x[..., 1:])  # all but one: what is shipped was learned so
    moved = (smooth[:, :3, 2:] - smooth[:, :3, :-2]) * (GRID_HZ / 2.0)  # g/s
    a, turn = smooth[:, :3, 1:-1], np.radians(smooth[:, 3:, 1:-1])
    expected = np.empty_like(moved)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        expected[:, i] = turn[:, k] * a[:, j] - turn[:, j] * a[:, k]
    both = np.einsum("nai,nai->na", moved, expected)
    ours = np.einsum("nai,nai->na", expected, expected)
    all_both, all_ours = both.sum(axis=1), ours.sum(axis=1)
    all_theirs = np.einsum("nai,nai->n", moved, moved)
    in_all = [
        all_both / (all_ours + 1e-3),
        all_both / np.sqrt(all_ours * all_theirs + 1e-6),
        np.log(all_ours + 1e-3),
        np.log((all_theirs + 1e-3) / (all_ours + 1e-3)),
    ]
    return np.concatenate([both / (ours + 1e-3), np.stack(in_all, axis=1)], axis=1)


def _smooth(x: SingleArray) -> SingleArray:
    """Mean of each 13 samples in a row: 8 + 4 + 1, each from sums of half as many (a cumulated sum costs four times)."""
    two = x[..., :-1] + x[..., 1:]
    four = two[..., :-2] + two[..., 2:]
    eight = four[..., :-4] + four[..., 4:]
    smooth = eight[..., :-5] + four[..., 8:-1]
    smooth += x[..., _SMOOTH - 1 :]
    smooth /= _SMOOTH
    return smooth


def _magnitude(accel: SingleArray) -> SingleArray:
    size = np.sqrt(np.einsum("nai,nai->ni", accel, accel))
    middle = size.shape[-1] // 2
    return np.stack([np.partition(size, middle, axis=-1)[:, middle], size.mean(axis=-1), size.std(axis=-1)], axis=1)
