"""Features of windows: the one implementation for training, batch and stream; imports numpy and ours.

Every set is computed row by row in effect (transforms along rows, elementwise operations, sums
along a row), so that a window's features are the same to the last bit in a batch of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from repstream.arrays import FloatArray, SideArray
from repstream.errors import FeatureError
from repstream.features import motion_shape, naive_frequency
from repstream.recordings.axes import AXES, SIDE_CODES
from repstream.windows.grid import GRID_HZ

# Windows handled at once: the temporaries of 40 (0.3 MB each) stay in the processor's cache, which halves
# the cost against a thousand at once, and are small enough for malloc to keep: from 64 on, in a process
# that has scipy loaded, each is mapped and unmapped anew, and costs twice as much (docs/results.md).
_BLOCK = 40

# 1 s: the bands and frequencies of both sets lie about 1 Hz apart, and a Hann window as long tells 2 Hz apart at best.
_LEAST_WINDOW = 50

# The first versions read other frequencies where a window was not 151 samples long.
_BEFORE_ANY_WINDOW = {"1": 151}


@dataclass(frozen=True)
class FeatureSet:
    """A named, versioned set of features.

    Attributes
    ----------
    name, version : str
        As stored in a model's card.
    names : tuple of str
        One a feature, in the order of the columns.
    min_window : int
        Fewest samples a window may have.
    kernel : callable
        ``(windows (n, 6, window), sides (n,)) -> (n, n_features)``.
    earlier : mapping of str to int
        Earlier versions, each with the one length of windows at which its values are still these.
    """

    name: str
    version: str
    names: tuple[str, ...]
    min_window: int
    kernel: Callable[[FloatArray, SideArray], FloatArray]
    earlier: Mapping[str, int] = field(default_factory=dict)

    def computes(self, version: str, window: int) -> bool:
        """Whether windows of this length have the features that a version gave them."""
        return version == self.version or self.earlier.get(version) == window

    def compute(self, windows: FloatArray, sides: SideArray | None = None) -> FloatArray:
        """Compute the features of many windows.

        Parameters
        ----------
        windows : ndarray, shape (n_windows, 6, window), float64
            Axes as in `repstream.recordings.axes.AXES`: g, then °/s. Not modified.
        sides : ndarray of int8, shape (n_windows,), optional
            `SIDE_CODES` of the wrists they were worn on; default all unknown.

        Returns
        -------
        ndarray, shape (n_windows, n_features), float64

        Raises
        ------
        FeatureError
            Where the windows' shape does not fit.
        """
        if windows.ndim != 3 or windows.shape[1] != len(AXES):
            raise FeatureError(f"windows have shape {windows.shape}, expected (n, 6, window)")
        self.check_window(windows.shape[2])
        n = len(windows)
        if sides is None:
            sides = np.full(n, SIDE_CODES["unknown"], dtype=np.int8)
        out = np.empty((n, len(self.names)))
        for i in range(0, n, _BLOCK):
            # Windows cut from a stream lie sample by sample in memory; axis by axis is three times as fast.
            block = np.ascontiguousarray(windows[i : i + _BLOCK])
            out[i : i + _BLOCK] = self.kernel(block, sides[i : i + _BLOCK])
        return out

    def check_window(self, window: int) -> None:
        """Refuse a window that is too short for this set."""
        if window < self.min_window:
            raise FeatureError(
                f"feature set {self.name} needs windows of at least {self.min_window} samples "
                f"({self.min_window / GRID_HZ:g} s), received {window}: a shorter one does not tell its frequencies apart"
            )


NAIVE_FREQUENCY = FeatureSet(
    name="naive-frequency",
    version="2",
    names=naive_frequency.NAMES,
    min_window=_LEAST_WINDOW,
    kernel=lambda windows, _: naive_frequency.naive_frequency(windows),
    earlier=_BEFORE_ANY_WINDOW,
)
MOTION_SHAPE = FeatureSet(
    name="motion-shape",
    version="2",
    names=motion_shape.NAMES,
    min_window=_LEAST_WINDOW,
    kernel=motion_shape.motion_shape,
    earlier=_BEFORE_ANY_WINDOW,
)

FEATURE_SETS = {s.name: s for s in (NAIVE_FREQUENCY, MOTION_SHAPE)}
DEFAULT_FEATURE_SET = MOTION_SHAPE.name


def feature_set(name: str) -> FeatureSet:
    """Look a set of features up by its name.

    Parameters
    ----------
    name : str
        A key of `FEATURE_SETS`.

    Raises
    ------
    FeatureError
        For an unknown name, with the known ones.

    Examples
    --------
    >>> import repstream
    >>> features = repstream.feature_set("naive-frequency")
    >>> len(features.names), features.names[:2]
    (65, ('accel_x_0', 'accel_x_1'))
    """
    try:
        return FEATURE_SETS[name]
    except KeyError:
        known = ", ".join(sorted(FEATURE_SETS))
        raise FeatureError(f"unknown feature set {name!r}; choose one of {known}") from None
