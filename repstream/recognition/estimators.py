"""A classifier as bytes, without pickle; imports errors.

The format is that of skops: arrays without objects, and a JSON tree of the types around them. Reading it
makes objects of the types below and of no other. They are those of the recipes in `training.recipes`; a
recipe that needs one more says so when it is written, not when it is loaded.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repstream.arrays import FloatArray
from repstream.errors import ModelError

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip knows: files of equal content are equal

# Which of skops's loaders may make which types. skops itself trusts far more: every estimator, and functions.
_TRUSTED = {
    "DictNode": {"builtins.dict"},
    "JsonNode": {"builtins.str"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": {"builtins.str"},
    "NdArrayNode": {"numpy.ndarray", "numpy.float64", "numpy.int64"},
    "RandomStateNode": {"numpy.random.mtrand.RandomState"},
    "TreeNode": {"sklearn.tree._tree.Tree"},
    "LossNode": {"sklearn._loss._loss.CyHalfBinomialLoss", "sklearn._loss._loss.CyHalfMultinomialLoss"},
    "ObjectNode": {
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.dummy.DummyClassifier",
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._gb.GradientBoostingClassifier",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.svm._classes.SVC",
        "sklearn.tree._classes.DecisionTreeRegressor",
        "sklearn.tree._classes.ExtraTreeClassifier",
    },
}


@dataclass(frozen=True, eq=False)
class Linear:
    """Standardised features into a multinomial logistic regression, without scikit-learn, which takes 2 s to import.

    Attributes
    ----------
    mean, scale : ndarray, shape (n_features,)
    coefficients : ndarray, shape (n_labels, n_features)
    intercepts : ndarray, shape (n_labels,)
    """

    mean: FloatArray
    scale: FloatArray
    coefficients: FloatArray
    intercepts: FloatArray

    def predict_proba(self, features: FloatArray) -> FloatArray:
        """Return the very numbers of scikit-learn's method; shape (n_windows, n_labels)."""
        scores = (features - self.mean) / self.scale @ self.coefficients.T + self.intercepts
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores


def pack(estimator: Any) -> bytes:
    """Write a fitted scikit-learn classifier as bytes; the same one always gives the same.

    Raises
    ------
    ModelError
        Where it holds a type that `unpack` would refuse.
    """
    import skops.io  # 2 s with all of scikit-learn

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as written:
        schema = json.loads(written.read(_SCHEMA))
        if stranger := _stranger(schema):
            raise ModelError(
                f"a model that holds {stranger} cannot be stored: only types listed in repstream/recognition/estimators.py can; "
                "choose another recipe, or add the type there"
            )
        arrays = _renumber(schema)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for old, new in arrays.items():
                _add(archive, new, written.read(old))
            _add(archive, _SCHEMA, json.dumps(schema).encode())
    return buffer.getvalue()


def unpack(data: bytes, source: Path, *, whole: bool = False) -> Any:
    """Read what `pack` wrote: something with scikit-learn's ``predict_proba``.

    Parameters
    ----------
    data : bytes
    source : Path
        What the data were read from, for messages.
    whole : bool
        As scikit-learn's own object, even where a `Linear` says the same.

    Raises
    ------
    ModelError
        Where it is no such file, or holds a type that is not trusted; then nothing of it is made.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            schema = json.loads(archive.read(_SCHEMA))
            stranger = _stranger(schema)
            linear = None if stranger or whole else _linear(schema, archive)
        if linear is not None:
            return linear
        if not stranger:
            import skops.io

            return skops.io.loads(data, trusted=sorted(set().union(*_TRUSTED.values())))
    except Exception as error:
        raise ModelError(
            f"{source}: not a readable classifier ({type(error).__name__}: {error}); retrain it: repstream train"
        ) from error
    raise ModelError(
        f"{source}: it holds {stranger}, which is not among the types that a model may hold, and is not loaded; "
        "download the model again, or retrain it: repstream train"
    )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON tree that skops would make something of, in order."""
    waiting = [tree]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if not {"__class__", "__module__", "__loader__"}.isdisjoint(here):
                yield here
            waiting += reversed(here.values())
        elif isinstance(here, list):
            waiting += reversed(here)


def _stranger(schema: Any) -> str | None:
    """Name the first thing in a tree that is not trusted."""
    for node in _nodes(schema):
        name = f"{node.get('__module__')}.{node.get('__class__')}"
        loader = str(node.get("__loader__"))
        if name not in _TRUSTED.get(loader, ()):
            return f"{name} (by {loader})"
    return None


def _linear(schema: Any, archive: zipfile.ZipFile) -> Linear | None:
    """Read a pipeline of a StandardScaler and a LogisticRegression of three labels or more; None where it is none."""
    try:
        scaler, logistic = (step["content"][1] for step in schema["content"]["content"]["steps"]["content"])
        kinds = [schema["__class__"], scaler["__class__"], logistic["__class__"]]
        scaling, fitted = scaler["content"]["content"], logistic["content"]["content"]
        whole = [scaling[k]["content"] == "true" for k in ("with_mean", "with_std")]
        files = [
            *(scaling[k]["file"] for k in ("mean_", "scale_")),
            *(fitted[k]["file"] for k in ("coef_", "intercept_")),
        ]
    except (KeyError, TypeError, ValueError):
        return None
    if kinds != ["Pipeline", "StandardScaler", "LogisticRegression"] or not all(whole):
        return None
    arrays = [np.load(io.BytesIO(archive.read(name)), allow_pickle=False) for name in files]
    return Linear(*arrays) if len(arrays[-1]) > 2 else None


def _renumber(schema: Any) -> dict[str, str]:
    """Replace addresses in memory by numbers in order; return the new name of each array's file."""
    numbers: dict[int, int] = {}
    files: dict[str, str] = {}
    for node in _nodes(schema):
        if node["__loader__"] == "JsonNode":
            del node["__id__"]  # which equal texts and numbers are one object is chance
        else:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
        if "file" in node:
            node["file"] = files.setdefault(node["file"], f"{len(files) + 1}.npy")
    return files


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
