"""Models on disk: card, checks, predictions; imports features, estimators and errors.

``models/<name>/<version>/`` holds ``model.skops`` (a scikit-learn classifier), ``reference.parquet``
(its reference windows) and ``card.json``, which says what they are and their SHA-256. Each file is read
once, and what is used are the bytes that were hashed. Models of earlier releases have a ``model.joblib``
instead, a pickle, which runs code when it is loaded; so it is loaded only from a folder that the user
named.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from repstream.arrays import FloatArray
from repstream.errors import ModelError
from repstream.features.sets import FeatureSet, feature_set
from repstream.recognition import estimators

MODEL_FILE = "model.skops"
PICKLE_FILE = "model.joblib"
CARD_FILE = "card.json"
REFERENCE_FILE = "reference.parquet"

SHIPPED_DIR = Path(__file__).resolve().parents[2] / "models"
# What `card_digest` says of the models that come with a release: in the folder they come in, no other is taken
# for them.
SHIPPED_CARDS = {"spar/1": "98a200fd8582b4556b364ac1d95ee388b9235a8ef1118d2023f326f83267b7d2"}

# A stored estimator is only promised to work with the very scikit-learn that made it; the others
# keep what they wrote readable within a minor release (skops for ever: its version is noted, not compared).
_EXACT = ("scikit-learn",)
_SAME_MINOR = ("numpy", "scipy", "joblib")
LIBRARIES = (*_EXACT, "numpy", "scipy", "skops")


def default_models_dir() -> Path:
    """``REPSTREAM_MODELS``, else ``models`` of the checkout, or beside the installed package.

    Never ``models`` of the current folder: whoever filled that folder would choose the model.
    """
    named = os.environ.get("REPSTREAM_MODELS")
    return Path(named) if named else SHIPPED_DIR


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model.

    Attributes
    ----------
    name, version : str
    labels : tuple of str
        In the order of the columns of `predict`.
    features : FeatureSet
    window, hop : int
        Samples of the 50 Hz grid.
    card : dict
        The whole card.
    folder : Path
    stored : bytes
        The classifier as it stands in its file, and
    pickled : bool
        whether that is a pickle.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    features: FeatureSet
    window: int
    hop: int
    card: dict[str, Any]
    folder: Path
    stored: bytes
    pickled: bool

    @property
    def id(self) -> str:
        """``name/version``."""
        return f"{self.name}/{self.version}"

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
            Where it cannot be read, or may not be.
        """
        self._classifier  # noqa: B018 - made by being looked at

    @cached_property
    def estimator(self) -> Any:
        """The classifier as scikit-learn's own object."""
        return _unpacked(self, whole=True)

    @cached_property
    def _classifier(self) -> Any:
        return _unpacked(self, whole=False)

    def read_file(self, name: str) -> bytes:
        """Return the content of one of the card's files.

        Raises
        ------
        ModelError
            Where it is missing, or not what it was when the card was written.
        """
        return _read_file(self.folder, self.card, name)


def installed_libraries() -> dict[str, str]:
    """Versions of the libraries that a model depends on."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def sha256(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card_digest(card: dict[str, Any]) -> str:
    """Hash a card's content, but for the hash itself."""
    content = {k: v for k, v in card.items() if k != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find_model(spec: str, models_dir: Path) -> Path:
    """Return the folder of ``name/version``, or of the newest version of ``name``.

    Raises
    ------
    ModelError
        Naming the models that there are.
    """
    name, _, version = spec.partition("/")
    known = available_models(models_dir)
    if not version:
        versions = [v for n, v in known if n == name]
        if versions:
            return models_dir / name / versions[-1]
    elif (name, version) in known:
        return models_dir / name / version
    there = ", ".join(f"{n}/{v}" for n, v in known) or "none"
    raise ModelError(f"there is no model {spec!r} in {models_dir} (there: {there}); train one with: repstream train")


def available_models(models_dir: Path) -> list[tuple[str, str]]:
    """All (name, version) in a folder, a name's versions from oldest to newest."""
    found = [(p.parent.parent.name, p.parent.name) for p in models_dir.glob(f"*/*/{CARD_FILE}")]
    return sorted(found, key=lambda nv: (nv[0], _version_key(nv[1])))


def _version_key(version: str) -> list[tuple[int, str]]:
    """Numbers within a version compare as numbers: 10 comes after 9."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.findall(r"\d+|\D+", version)]


def load_model(spec: str, models_dir: Path | None = None, *, predicts: bool = True) -> Model:
    """Load and verify a model.

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
    folder = find_model(spec, models_dir or default_models_dir())
    card = _read_card(folder)
    pickled = MODEL_FILE not in card["files"] and PICKLE_FILE in card["files"]
    if pickled and models_dir is None and not os.environ.get("REPSTREAM_MODELS"):
        raise ModelError(
            f"{folder / PICKLE_FILE}: a pickle, which can run code of whoever made it when it is loaded; "
            "if you trust it, name its folder with --models-dir or REPSTREAM_MODELS, "
            "else train the model again: repstream train"
        )
    _check_libraries(folder, card, pickled)
    stored = _read_file(folder, card, PICKLE_FILE if pickled else MODEL_FILE)
    _read_file(folder, card, REFERENCE_FILE)
    _check_card(folder, card)
    features = feature_set(str(card["feature_set"]))
    if features.version != card["feature_set_version"]:
        raise ModelError(
            f"{folder}: the model was trained on version {card['feature_set_version']} of the feature set "
            f"{features.name}, this release computes version {features.version}; train it again: repstream train"
        )
    model = Model(
        name=str(card["name"]),
        version=str(card["version"]),
        labels=tuple(card["labels"]),
        features=features,
        window=int(card["window"]),
        hop=int(card["hop"]),
        card=card,
        folder=folder,
        stored=stored,
        pickled=pickled,
    )
    if predicts:
        model.prepare()
    return model


def _unpacked(model: Model, whole: bool) -> Any:
    if model.pickled:
        import joblib

        return joblib.load(io.BytesIO(model.stored))
    return estimators.unpack(model.stored, model.folder / MODEL_FILE, whole=whole)


_REQUIRED = ("name", "version", "labels", "feature_set", "feature_set_version", "window", "hop", "libraries", "files")


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable card ({error})") from None
    missing = [k for k in _REQUIRED if not isinstance(card, dict) or k not in card]
    if not missing and not (isinstance(card["libraries"], dict) and isinstance(card["files"], dict)):
        missing = ["libraries and files by name"]
    if missing:
        raise ModelError(f"{path}: the card lacks {', '.join(missing)}; train the model again: repstream train")
    return dict(card)


def _check_libraries(folder: Path, card: dict[str, Any], pickled: bool) -> None:
    for name in (*_EXACT, *_SAME_MINOR):
        if name == "joblib" and not pickled:
            continue
        made, now = str(card["libraries"].get(name, "unknown")), importlib.metadata.version(name)
        same = made == now if name in _EXACT else made.split(".")[:2] == now.split(".")[:2]
        if not same:
            raise ModelError(
                f"{folder}: the model was made with {name} {made}, installed is {now}; "
                f"install {name}=={made}, or train it again with: repstream train"
            )


def _read_file(folder: Path, card: dict[str, Any], name: str) -> bytes:
    path = folder / name
    if name not in card["files"] or not path.is_file():
        raise ModelError(f"{folder}: {name} is missing; fetch the model anew, or train it: repstream train")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != card["files"][name]:
        raise ModelError(
            f"{path}: its SHA-256 is not the card's: the file was altered or damaged, and is not loaded; "
            "fetch the model anew, or train it again: repstream train"
        )
    return content


def _check_card(folder: Path, card: dict[str, Any]) -> None:
    digest = card_digest(card)
    if card.get("card_sha256") != digest:
        raise ModelError(
            f"{folder / CARD_FILE}: the card was altered after training; fetch the model anew, "
            "or train it again: repstream train"
        )
    pinned = SHIPPED_CARDS.get(f"{folder.parent.name}/{folder.name}")
    if pinned not in (None, digest) and folder.parent.parent.resolve() == SHIPPED_DIR:
        raise ModelError(
            f"{folder / CARD_FILE}: this is not the model that this release came with; fetch the release anew, "
            "or keep a model of your own under another name or in a folder given by --models-dir"
        )
