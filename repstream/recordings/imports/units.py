"""Which unit a sensor's numbers are in: told by gravity and by how rotation moves it, not by a column's name; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from repstream.arrays import FloatArray

G = 9.80665
ACCEL_SCALE = {"g": 1.0, "m/s2": 1.0 / G, "mg": 1e-3}
"""What a number in each unit is times, in g."""
GYRO_SCALE = {"deg/s": 1.0, "rad/s": 180.0 / np.pi, "mdeg/s": 1e-3}
"""The same, in °/s."""

# The mean over a second is gravity and what little of a movement does not cancel out: 0.62 to 1.8 g in all of SPAR.
_LEAST_G, _MOST_G = 0.5, 2.0
# Without gravity hardly anything is left in the mean over a second: at most 0.46 in SPAR, and with it at least 0.55.
_LEAST_SHARE = 0.5
_CALM_SHARE = 0.2
_BLOCK_S = 0.5
# How well rotation must explain the movement of gravity to be believed.
_LEAST_AGREEMENT = 0.6
# Nobody turns a wrist by 40 rad/s for long, and everybody by 40 °/s.
_RAD_BELOW = 40.0


@dataclass(frozen=True)
class Rotation:
    """How the gyroscope explains the movement of gravity: ``du/dt = -scale · (gyro × u)``.

    Attributes
    ----------
    scale : float
        rad/s for each unit of the file.
    agreement : float
        Correlation of both sides, -1 to 1; below 0 the axes of the two sensors differ.
    """

    scale: float
    agreement: float


def at_rest(accel: FloatArray, rate_hz: float) -> float:
    """Median length of the acceleration in the calmest fifth of a recording, in the unit of `accel`.

    Parameters
    ----------
    accel : ndarray, shape (n, 3)
    rate_hz : float
    """
    length = np.linalg.norm(accel, axis=1)
    size = max(round(_BLOCK_S * rate_hz), 2)
    n = len(length) // size
    if n < 2:
        return float(np.median(length))
    blocks = accel[: n * size].reshape(n, size, 3)
    restless = blocks.std(axis=1).sum(axis=1)
    calm = np.argsort(restless)[: max(1, round(_CALM_SHARE * n))]
    return float(np.median(length[: n * size].reshape(n, size)[calm]))


def gravity(accel: FloatArray, rate_hz: float) -> tuple[float, float]:
    """Median length of the acceleration's mean over a second, and its share of the length itself.

    Parameters
    ----------
    accel : ndarray, shape (n, 3)
    rate_hz : float

    Returns
    -------
    float, float
        In the unit of `accel`; 0 to 1.
    """
    width = min(max(round(rate_hz), 2), len(accel) - 1)
    if width < 2:
        length = float(np.median(np.linalg.norm(accel, axis=1)))
        return length, 1.0
    steady = float(np.median(np.linalg.norm(_smooth(accel, width), axis=1)))
    length = float(np.median(np.linalg.norm(accel, axis=1)))
    return steady, min(steady / length, 1.0) if length else 0.0


def accel_unit(steady: float, share: float) -> str | None:
    """Unit in which a sensor shows gravity, by what `gravity` found; None where it shows none."""
    if share < _LEAST_SHARE:
        return None
    for unit, scale in ACCEL_SCALE.items():
        if _LEAST_G <= steady * scale <= _MOST_G:
            return unit
    return None


def rotation(accel_g: FloatArray, gyro: FloatArray, rate_hz: float) -> Rotation | None:
    """Compare the movement of gravity with what the gyroscope says; None where too little moves.

    Parameters
    ----------
    accel_g, gyro : ndarray, shape (n, 3)
        On one clock; acceleration in g, angular rate in any unit.
    rate_hz : float
    """
    width = max(round(0.3 * rate_hz), 2)
    if len(accel_g) < 6 * width:
        return None
    a, w = _smooth(accel_g, width), _smooth(gyro, width)
    length = np.linalg.norm(a, axis=1)
    ahead = max(width // 2, 1)
    u = a / np.maximum(length, 1e-9)[:, None]
    moved = (u[2 * ahead :] - u[: -2 * ahead]) * (rate_hz / (2 * ahead))
    told = -np.cross(w[ahead:-ahead], u[ahead:-ahead])
    # Only where what is measured is mostly gravity.
    calm = np.abs(length[ahead:-ahead] - 1.0) < 0.25
    if calm.sum() < 4 * width:
        return None
    moved, told = moved[calm], told[calm]
    own = float((told * told).sum())
    both = float(np.sqrt(own * (moved * moved).sum()))
    if both <= 0.0:
        return None
    product = float((moved * told).sum())
    return Rotation(product / own, product / both)


def _smooth(x: FloatArray, width: int) -> FloatArray:
    sums = np.cumsum(np.vstack([np.zeros(3), x]), axis=0)
    smooth: FloatArray = (sums[width:] - sums[:-width]) / width
    return smooth


def gyro_unit(found: Rotation | None, gyro: FloatArray, said: str | None) -> str:
    """Unit of angular rates: by how they move gravity, else as the file says, else by their size."""
    if found is not None and found.agreement >= _LEAST_AGREEMENT:
        near = {unit: abs(np.log(found.scale / np.radians(scale))) for unit, scale in GYRO_SCALE.items()}
        return min(near, key=near.__getitem__)
    if said is not None:
        return said
    usual = float(np.quantile(np.linalg.norm(gyro, axis=1), 0.99)) if len(gyro) else 0.0
    return "rad/s" if usual < _RAD_BELOW else "deg/s"
