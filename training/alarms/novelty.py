"""Learn what known movement looks like, so that unknown movement can be told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from repstream.alarms.novelty import Novelty, projected
from repstream.arrays import FloatArray, TextArray

_COMPONENTS = 15
_SHRINKAGE = 0.1


def fit_novelty(features: FloatArray, labels: TextArray) -> Novelty:
    """Learn directions and points from windows of known exercises; distances are not scaled yet.

    Parameters
    ----------
    features : ndarray, shape (n_windows, n_features)
    labels : ndarray of str, shape (n_windows,)
        Of two of them at least there are two windows or more.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-9
    identity = np.eye(features.shape[1])
    x = projected(features, mean, deviation, identity)
    _, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    several = counts[of] > 1
    apart = LinearDiscriminantAnalysis(solver="eigen", shrinkage=_SHRINKAGE).fit(x[several], labels[several])
    most = PCA(min(_COMPONENTS, *x.shape), whiten=True).fit(x)
    directions = np.concatenate(
        [
            apart.scalings_[:, : len(apart.classes_) - 1],
            most.components_.T / np.sqrt(most.explained_variance_),
        ],
        axis=1,
    )
    return Novelty(mean, deviation, directions, projected(features, mean, deviation, directions))


def scaled(novelty: Novelty, distances: FloatArray) -> Novelty:
    """Set the scale by distances of windows of people that the points are not of."""
    usual, far = np.percentile(distances, [50, 90])
    return replace(novelty, usual=float(usual), far=float(far))
