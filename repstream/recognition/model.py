"""A model that predicts: its card, and the classifier made of its file; imports card, estimators and errors.

What is made are the very bytes that were hashed. A pickle, as models of earlier releases have, runs code when it is
loaded; so it is loaded only from a folder that the user named.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from repstream.arrays import FloatArray
from repstream.errors import ModelError
from repstream.recognition import estimators
from repstream.recognition.card import PICKLE_FILE, ModelCard, open_card

# A stored estimator is only promised to work with the very scikit-learn that made it; the others
# keep what they wrote readable within a minor release (skops for ever: its version is noted, not compared).
_EXACT = ("scikit-learn",)
_SAME_MINOR = ("numpy", "scipy", "joblib")
LIBRARIES = (*_EXACT, "numpy", "scipy", "skops")


@dataclass(frozen=True, eq=False)
class Model(ModelCard):
    """A loaded model: a card with what predicts.

    Attributes
    ----------
    stored : bytes
        The classifier as it stands in its file.
    """

    stored: bytes

    def predict(self, features: FloatArray) -> FloatArray:
        """Return each label's probability.

        Parameters
        ----------
        features : ndarray, shape (n_windows, n_features)

        Returns
        -------
        ndarray, shape (n_windows, n_labels)
            Rows sum to 1.
        """
        if not len(features):
            return np.empty((0, len(self.labels)))
        return np.asarray(self._classifier.predict_proba(features), dtype=np.float64)

    def prepare(self) -> None:
        """Make the classifier, if it is not made yet.

        Raises
        ------
        ModelError
            Where it cannot be read.
        """
        self._classifier  # noqa: B018 - made by being looked at

    @cached_property
    def estimator(self) -> Any:
        """The classifier as scikit-learn's own object."""
        return self._unpacked(whole=True)

    @cached_property
    def _classifier(self) -> Any:
        return self._unpacked(whole=False)

    def _unpacked(self, whole: bool) -> Any:
        if self.model_file == PICKLE_FILE:
            import joblib

            return joblib.load(io.BytesIO(self.stored))
        return estimators.unpack(self.stored, self.folder / self.model_file, whole=whole)


def load_model(spec: str, models_dir: Path | None = None, *, predicts: bool = True) -> Model:
    """Load and verify a model; who needs only its card calls `load_card`.

    Parameters
    ----------
    spec : str
        ``name/version``, or ``name`` for its newest version.
    models_dir : Path, optional
        Default `default_models_dir`. A folder that is named, here or by ``REPSTREAM_MODELS``, is trusted with
        pickles.
    predicts : bool
        Make the classifier now; else where the first prediction is asked for, if ever: some take seconds.

    Raises
    ------
    ModelError
        Where it is missing, incomplete, altered, a pickle that may not run, or made by other library versions.

    Examples
    --------
    >>> import repstream
    >>> model = repstream.load_model("spar/1")
    >>> model.labels, model.window, model.hop
    (('ABD', 'ER', 'FEL', 'IR', 'PEN', 'ROW', 'TRAP'), 151, 25)
    """
    opened, stored = open_card(spec, models_dir)
    pickled = opened.model_file == PICKLE_FILE
    if pickled and models_dir is None and not os.environ.get("REPSTREAM_MODELS"):
        raise ModelError(
            f"{opened.folder / PICKLE_FILE}: a pickle, which can run code of whoever made it when it is loaded; "
            "if you trust it, name its folder with --models-dir or REPSTREAM_MODELS, "
            "else retrain the model: repstream train"
        )
    _check_libraries(opened, pickled)
    model = Model(**vars(opened), stored=stored)
    if predicts:
        model.prepare()
    return model


def installed_libraries() -> dict[str, str]:
    """Versions of the libraries that a model depends on."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _check_libraries(opened: ModelCard, pickled: bool) -> None:
    for name in (*_EXACT, *_SAME_MINOR):
        if name == "joblib" and not pickled:
            continue
        made, now = str(opened.card["libraries"].get(name, "unknown")), importlib.metadata.version(name)
        same = made == now if name in _EXACT else made.split(".")[:2] == now.split(".")[:2]
        if not same:
            raise ModelError(
                f"{opened.folder}: the model was made with {name} {made}, installed is {now}; "
                f"install {name}=={made}, or retrain it: repstream train"
            )
