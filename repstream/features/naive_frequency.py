"""The feature set ``naive-frequency``: relative spectral magnitudes at 65 chosen bins.

The bins and the normalisation are those of the exercise_prediction project.
"""

from __future__ import annotations

import numpy as np

from repstream.arrays import FloatArray
from repstream.recordings.axes import AXES


def power_spectrum(rows: FloatArray) -> FloatArray:
    """Power |DFT|² of real rows of six axes, two axes to one complex transform.

    The spectra of two real signals a and b are the even and odd parts of that of a + ib (Cooley,
    Lewis and Welch 1970). For 151 samples, a prime, that is a third of the cost of real transforms.

    Parameters
    ----------
    rows : ndarray, shape (n, 6, window)
        The two of a pair (0 and 1, 2 and 3, 4 and 5) should be of like size, as the smaller one
        carries the rounding of the larger.

    Returns
    -------
    ndarray, shape (n, 6, window // 2 + 1)
    """
    n, _, window = rows.shape
    packed = np.empty((n, 3, window), dtype=np.complex128)
    packed.real = rows[:, 0::2]
    packed.imag = rows[:, 1::2]
    z = np.fft.fft(packed)
    bins = window // 2 + 1
    p = z[..., :bins]
    q = np.empty_like(p)  # z at the negative frequencies
    q[..., 0] = z[..., 0]
    q[..., 1:] = z[..., :-bins:-1]
    out = np.empty((n, 6, bins))
    out[:, 0::2] = (p.real + q.real) ** 2 + (p.imag - q.imag) ** 2
    out[:, 1::2] = (p.real - q.real) ** 2 + (p.imag + q.imag) ** 2
    out *= 0.25
    return out


BINS: dict[str, tuple[int, ...]] = {
    "accel_x": (0, 1, 2, 4, 5, 7, 9, 12, 16),
    "accel_y": tuple(range(13)),
    "accel_z": (0, 1, 2, 3, 4, 5, 8, 12, 14),
    "gyro_x": tuple(range(14)),
    "gyro_y": (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11),
    "gyro_z": (0, 1, 3, 4, 5, 8, 14, 17, 18),
}
_AXIS = np.array([AXES.index(axis) for axis, fs in BINS.items() for _ in fs])
_BIN = np.array([3 * f for fs in BINS.values() for f in fs])


def naive_frequency(windows: FloatArray) -> FloatArray:
    """Compute |DFT| under a symmetric Hann window over its largest magnitude, at the bins of `BINS`.

    A magnitude knows no sign, so a mirrored wrist gives the same values.

    Parameters
    ----------
    windows : ndarray, shape (n, 6, window)
        Windows of at least 109 samples: the highest bin read is 54.

    Returns
    -------
    ndarray, shape (n, 65)
        Between 0 and 1; an axis that is all zero gives zeros.
    """
    rows = windows * np.hanning(windows.shape[2])
    peak = np.abs(rows).max(axis=-1, keepdims=True)
    # The result knows no scale, and rows of like size keep the pair's smaller one exact.
    rows /= np.where(peak > 0.0, peak, 1.0)
    power = power_spectrum(rows)
    top = power.max(axis=-1)
    silent = peak[..., 0] == 0.0  # its partner's rounding must not be read as a signal
    top[silent] = 1.0
    power[silent] = 0.0
    return np.asarray(np.sqrt(power[:, _AXIS, _BIN] / top[:, _AXIS]))


NAMES = tuple(f"{axis}_{f}" for axis, fs in BINS.items() for f in fs)
