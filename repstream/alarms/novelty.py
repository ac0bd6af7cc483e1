"""How unlike all known movement a window's features are; imports errors and signal_recogniser.

The distance to the nearest windows of the reference, in the directions in which exercises differ (linear
discriminant analysis) and those in which windows vary most (principal components).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repstream.alarms.recogniser import LARGEST
from repstream.arrays import FloatArray

NEIGHBOURS = 5
_FAR = 4.0  # standard deviations: one wild feature is not to decide


@dataclass(frozen=True, eq=False)
class Novelty:
    """What distances are measured by.

    Attributes
    ----------
    mean, deviation : ndarray, shape (n_features,)
        Of the reference's features.
    directions : ndarray, shape (n_features, n_directions)
    points : ndarray, shape (n_reference, n_directions)
        The reference's windows.
    usual, far : float
        Distances that half, and nine in ten, of the windows of new people doing known exercises are within.
    """

    mean: FloatArray
    deviation: FloatArray
    directions: FloatArray
    points: FloatArray
    usual: float = 0.0
    far: float = 1.0

    def place(self, features: npt.ArrayLike) -> FloatArray:
        """Project features, shape (n, n_features), to (n, n_directions)."""
        return projected(np.asarray(features, dtype=np.float64), self.mean, self.deviation, self.directions)

    def distance(self, features: npt.ArrayLike) -> FloatArray:
        """Mean distance to the nearest `NEIGHBOURS` windows of the reference, shape (n,)."""
        x = self.place(features)
        squares = np.square(x).sum(axis=1)[:, None] + np.square(self.points).sum(axis=1) - 2.0 * x @ self.points.T
        near = np.partition(squares, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        distance: FloatArray = np.sqrt(np.maximum(near, 0.0)).mean(axis=1)
        return distance

    def evidence(self, features: npt.ArrayLike) -> FloatArray:
        """Evidence of unknown movement, on the scale of log-odds, shape (n,): 0 at `far`, -3 at `usual`."""
        score: FloatArray = (self.distance(features) - self.far) / (self.far - self.usual) * 3.0
        return np.clip(score, -LARGEST, LARGEST)


def projected(features: FloatArray, mean: FloatArray, deviation: FloatArray, directions: FloatArray) -> FloatArray:
    """Standardise, cut off what is far, and project."""
    placed: FloatArray = np.clip((features - mean) / deviation, -_FAR, _FAR) @ directions
    return placed
