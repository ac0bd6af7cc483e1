"""The feature set ``naive-frequency``: relative spectral magnitudes at 65 chosen frequencies.

The frequencies and the normalisation are those of the exercise_prediction project: bin 3·f of a window of 151 samples,
which is 0.993·f Hz. Windows of other lengths are read at the same frequencies.
"""

from __future__ import annotations

import numpy as np

from repstream.arrays import FloatArray
from repstream.recordings.axes import AXES


def power_spectrum(rows: FloatArray, n_points: int) -> FloatArray:
    """Power |DFT|² of real rows of six axes, two axes to one complex transform.

    The spectra of two real signals a and b are the even and odd parts of that of a + ib (Cooley,
    Lewis and Welch 1970). For 151 samples, a prime, that is a third of the cost of real transforms.

    Parameters
    ----------
    rows : ndarray, shape (n, 6, window)
        The two of a pair (0 and 1, 2 and 3, 4 and 5) should be of like size, as the smaller one
        carries the rounding of the larger.
    n_points : int
        Length of the transform; rows are padded with zeros to it.

    Returns
    -------
    ndarray, shape (n, 6, n_points // 2 + 1)
    """
    n, _, window = rows.shape
    packed = np.empty((n, 3, window), dtype=np.complex128)
    packed.real = rows[:, 0::2]
    packed.imag = rows[:, 1::2]
    z = np.fft.fft(packed, n_points)
    bins = n_points // 2 + 1
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
# The window that the bins are defined for.
_DEFINED = 151


def naive_frequency(windows: FloatArray) -> FloatArray:
    """Compute |DFT| under a symmetric Hann window over its largest magnitude, at the frequencies of `BINS`.

    A magnitude knows no sign, so a mirrored wrist gives the same values.

    Parameters
    ----------
    windows : ndarray, shape (n, 6, window)
        At 50 Hz. The highest frequency read is 17.9 Hz, which a window of any length holds; how close two frequencies
        may be to be told apart is 100 / window Hz.

    Returns
    -------
    ndarray, shape (n, 65)
        Between 0 and 1; an axis that is all zero gives zeros.
    """
    rows = windows * np.hanning(windows.shape[2])
    peak = np.abs(rows).max(axis=-1, keepdims=True)
    # The result knows no scale, and rows of like size keep the pair's smaller one exact.
    rows /= np.where(peak > 0.0, peak, 1.0)
    # Padded to a multiple of the definition's window, the spectrum has that window's bins, and others between them.
    finer = -(-windows.shape[2] // _DEFINED)
    power = power_spectrum(rows, finer * _DEFINED)
    top = power.max(axis=-1)
    silent = peak[..., 0] == 0.0  # its partner's rounding must not be read as a signal
    top[silent] = 1.0
    power[silent] = 0.0
    return np.asarray(np.sqrt(power[:, _AXIS, finer * _BIN] / top[:, _AXIS]))


NAMES = tuple(f"{axis}_{f}" for axis, fs in BINS.items() for f in fs)
