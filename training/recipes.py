"""How a model is made: feature set, augmentation, classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from repstream.arrays import FloatArray, SideArray, TextArray
from repstream.errors import SettingsError
from repstream.features.motion_shape import MIRROR
from repstream.features.sets import feature_set
from repstream.recordings.axes import SIDE_CODES
from training.dataset import Dataset

# How differently two people strap a watch on, degrees about each axis; 10 to 20 score alike.
ROTATION_SD_DEG = 15.0


@dataclass(frozen=True)
class Recipe:
    """One way of making a model.

    Attributes
    ----------
    name, text : str
        For people.
    features : str
        Feature set.
    rotated_copies : int
        Copies of the training windows with the sensor turned a little.
    build : callable
        ``seed -> unfitted scikit-learn classifier``.
    """

    name: str
    text: str
    features: str
    rotated_copies: int
    build: Callable[[int], Any]


RECIPES = {
    r.name: r
    for r in (
        Recipe(
            "logistic",
            "multinomial logistic regression on motion-shape",
            "motion-shape",
            1,
            lambda seed: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, random_state=seed)),
        ),
        Recipe(
            "mlp",
            "one hidden layer of 64 on motion-shape",
            "motion-shape",
            1,
            lambda seed: make_pipeline(
                StandardScaler(), MLPClassifier((64,), alpha=1.0, max_iter=60, random_state=seed)
            ),
        ),
        Recipe(
            "svc",
            "support vectors with an RBF kernel on motion-shape",
            "motion-shape",
            1,
            lambda _: make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(C=10), ensemble=False)),
        ),
        Recipe(
            "lda",
            "discriminant analysis with shrinkage on motion-shape",
            "motion-shape",
            1,
            lambda _: make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)),
        ),
        Recipe(
            "extra-trees",
            "300 extremely randomised trees on motion-shape",
            "motion-shape",
            1,
            lambda seed: ExtraTreesClassifier(300, min_samples_leaf=2, random_state=seed),
        ),
        Recipe(
            "naive-boosting",
            "gradient boosting of 100 trees on naive-frequency, the job that frameworks are compared on",
            "naive-frequency",
            0,
            lambda seed: GradientBoostingClassifier(n_estimators=100, random_state=seed),
        ),
    )
}
DEFAULT_RECIPE = "logistic"


def find_recipe(name: str) -> Recipe:
    """Look a recipe up by its name; raises `SettingsError` with the known ones."""
    if name not in RECIPES:
        raise SettingsError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def rotated(windows: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Turn each window's sensor by a small random rotation, as if it were strapped on otherwise.

    Parameters
    ----------
    windows : ndarray, shape (n_windows, 6, window)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n_windows, 6, window)
        Accelerometer and gyroscope of a window turned together.
    """
    vectors = np.deg2rad(rng.normal(0.0, ROTATION_SD_DEG, (len(windows), 3)))
    turns = Rotation.from_rotvec(vectors).as_matrix()
    sensors = windows.reshape(len(windows), 2, 3, -1)
    return np.asarray((turns[:, None] @ sensors).reshape(windows.shape))


def mirrored_to_left(windows: FloatArray, sides: SideArray) -> FloatArray:
    """Make right wrists look like left ones."""
    right = sides == SIDE_CODES["right"]
    return windows * np.where(right[:, None], MIRROR, 1.0)[:, :, None]


def training_table(recipe: Recipe, data: Dataset, seed: int) -> tuple[FloatArray, TextArray]:
    """Return features and labels of the windows and of their rotated copies."""
    features = feature_set(recipe.features)
    rng = np.random.default_rng(seed)
    tables = [features.compute(data.windows, data.sides)]
    left = np.where(data.sides == SIDE_CODES["unknown"], data.sides, SIDE_CODES["left"]).astype(np.int8)
    # Turned after mirroring: the rule of signs holds for the sensor's own axes.
    straight = mirrored_to_left(data.windows, data.sides)
    tables += [features.compute(rotated(straight, rng), left) for _ in range(recipe.rotated_copies)]
    return np.concatenate(tables), np.tile(data.labels, 1 + recipe.rotated_copies)


def fit(recipe: Recipe, data: Dataset, seed: int) -> Any:
    """Train a recipe's classifier on a dataset."""
    table, labels = training_table(recipe, data, seed)
    return recipe.build(seed).fit(table, labels)
