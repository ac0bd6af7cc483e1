"""The feature set ``motion-shape``: how far, how fast and which way a wrist moves and hangs.

105 values of a window, computed from its samples averaged in pairs (50 Hz to 25 Hz): that keeps
what a limb can do and halves the work. What each is good for was measured by leaving subjects out
(docs/explanation/model.md).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from repstream.arrays import BoolArray, FloatArray, SideArray
from repstream.recordings.axes import AXES, SIDE_CODES

MIRROR = np.array([-1.0, 1.0, 1.0, 1.0, -1.0, -1.0])
"""Signs that make a right wrist's axes a left one's, the body's mirror image (measured on SPAR)."""

QUANTILES = {"min": 0.0, "q10": 0.1, "q25": 0.25, "q75": 0.75, "q90": 0.9, "max": 1.0}

BANDS_HZ = ((0.2, 0.8), (0.8, 1.8), (1.8, 3.2), (3.2, 5.5), (5.5, 10.2))
"""Lower edge in, upper edge out."""

QUICK_HZ = (1.2, 5.2)
"""Where the axes' quick movements are compared with each other."""

PAIRS = tuple(itertools.combinations(range(6), 2))

NAMES = (
    *(f"{axis}_logsd" for axis in AXES),
    *(f"{axis}_{name}" for name in QUANTILES for axis in AXES),
    *(f"{axis}_log_{low:g}_{high:g}hz" for low, high in BANDS_HZ for axis in AXES),
    *(f"corr_{AXES[i]}_{AXES[j]}" for i, j in PAIRS),
    *(f"quick_{AXES[i]}_{AXES[j]}" for i, j in PAIRS),
    "turn_vertical_mean",
    "turn_vertical_logsd",
    "turn_level_logrms",
)

_RATE_HZ = 25.0
# Spectra have the bins of the default window (151 samples, 75 pairs) whatever the window, a third of a hertz apart:
# every band holds some, and a movement within a band gives the same value at any length.
_BINS_OF = 75
# Noise floors: a still axis gives a finite value that does not jump about.
_SD_FLOOR = np.array([1e-3] * 3 + [0.1] * 3)  # g, °/s
_POWER_FLOOR = np.array([1e-3] * 3 + [10.0] * 3)  # the same, squared, summed over a window
_I, _J = np.array(PAIRS).T


def motion_shape(windows: FloatArray, sides: SideArray) -> FloatArray:
    """Compute the features of some windows.

    Parameters
    ----------
    windows : ndarray, shape (n, 6, window)
        g and °/s at 50 Hz; 151 samples in the models shipped.
    sides : ndarray of int8, shape (n,)
        `SIDE_CODES`: right wrists are mirrored to look like left ones. Of an unknown side, a window
        whose mean accel_x is negative is taken for a right wrist: a hanging arm shows which it is,
        where the watch sits as in SPAR.

    Returns
    -------
    ndarray, shape (n, 105)
        The columns are `NAMES`:

        - ``<axis>_logsd``: log of the standard deviation (g, °/s);
        - ``<axis>_min … max``: quantiles (g, °/s), which hold posture and reach;
        - ``<axis>_log_<low>_<high>hz``: log power in a band, under a Hann window;
        - ``corr_<axis>_<axis>``: correlation of two axes;
        - ``quick_<axis>_<axis>``: the same for what lies in `QUICK_HZ`;
        - ``turn_vertical_…``: rotation about gravity's direction (mean in °/s, log of its deviation),
          ``turn_level_logrms``: about the directions level with the ground.
    """
    even = windows.shape[-1] // 2 * 2
    x = np.ascontiguousarray(windows[..., 0:even:2] + windows[..., 1:even:2])
    mirrored = is_mirrored(x[:, 0].mean(axis=-1), sides)
    x *= 0.5 * np.where(mirrored[:, None], MIRROR, 1.0)[..., None]
    n = x.shape[-1]
    columns: list[FloatArray] = []

    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=-1))
    columns.append(np.log(deviation + _SD_FLOOR))

    ranked = np.sort(x, axis=-1)
    columns += [ranked[..., int(q * (n - 1) + 0.5)] for q in QUANTILES.values()]

    padded = -(-n // _BINS_OF) * _BINS_OF
    taper = np.hanning(n + 2)[1:-1] * (_BINS_OF / math.sqrt(padded * n))  # Parseval: as loud as in the default window
    spectrum = np.fft.rfft(centred * taper, padded, axis=-1)
    hertz = np.arange(padded // 2 + 1) * (_RATE_HZ / padded)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    for low, high in BANDS_HZ:
        a, b = np.searchsorted(hertz, (low, high))
        columns.append(np.log(power[..., a:b].sum(axis=-1) + _POWER_FLOOR))

    scale = deviation[:, _I] * deviation[:, _J] + _SD_FLOOR[_I] * _SD_FLOOR[_J]
    columns.append(_products(centred) / n / scale)

    a, b = np.searchsorted(hertz, QUICK_HZ)
    quick = np.ascontiguousarray(spectrum[..., a:b]).view(np.float64)
    loudness = np.sqrt(np.square(quick).sum(axis=-1))
    scale = loudness[:, _I] * loudness[:, _J] + np.sqrt(_POWER_FLOOR[_I] * _POWER_FLOOR[_J])
    columns.append(_products(quick) / scale)

    accel, gyro = x[:, :3], x[:, 3:]
    length = np.sqrt(np.square(accel).sum(axis=1)) + 1e-6
    vertical = (accel * gyro).sum(axis=1) / length
    level = np.maximum(np.square(gyro).sum(axis=1) - np.square(vertical), 0.0)
    columns.append(vertical.mean(axis=-1)[:, None])
    columns.append(np.log(vertical.std(axis=-1) + 1.0)[:, None])
    columns.append(np.log(np.sqrt(level.mean(axis=-1)) + 1.0)[:, None])
    return np.concatenate(columns, axis=1)


def is_mirrored(mean_accel_x: FloatArray, sides: SideArray) -> BoolArray:
    """Tell which windows are of a right wrist; of an unknown side, by where gravity pulls (see `motion_shape`)."""
    unknown = sides == SIDE_CODES["unknown"]
    return np.where(unknown, mean_accel_x < 0.0, sides == SIDE_CODES["right"])


def _products(x: FloatArray) -> FloatArray:
    """Sum over the last axis the products of each pair of axes, (n, 6, m) to (n, 15)."""
    # Sums, not a matrix product: its last bits would depend on how many windows come at once.
    return np.concatenate([(x[:, i : i + 1] * x[:, i + 1 :]).sum(axis=-1) for i in range(5)], axis=1)
