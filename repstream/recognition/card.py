"""A model's card: found, read, held against the files that it names; imports features, shipped and errors.

``models/<name>/<version>/`` holds ``model.skops`` (a scikit-learn classifier), ``reference.parquet``
(its reference windows) and ``card.json``, which says what they are and their SHA-256. Models of earlier releases have a
``model.joblib``, a pickle, instead. Nothing here makes a classifier of its file: `repstream.recognition.model` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repstream.errors import ModelError
from repstream.features.sets import FeatureSet, feature_set
from repstream.shipped import is_checkout, shipped
from repstream.windows.share import WHOLE

MODEL_FILE = "model.skops"
PICKLE_FILE = "model.joblib"
CARD_FILE = "card.json"
REFERENCE_FILE = "reference.parquet"

SHIPPED_DIR = shipped("models")
# What `card_digest` says of the models that come with a release: in the folder they come in, no other is taken
# for them.
SHIPPED_CARDS = {"spar/1": "98a200fd8582b4556b364ac1d95ee388b9235a8ef1118d2023f326f83267b7d2"}

_REQUIRED = ("name", "version", "labels", "feature_set", "feature_set_version", "window", "hop", "libraries", "files")


def default_models_dir() -> Path:
    """Where models of one's own are kept: ``REPSTREAM_MODELS``, else ``models`` of the checkout, else the user's data folder.

    Never ``models`` of the current folder: whoever filled that folder would choose the model.
    """
    if named := os.environ.get("REPSTREAM_MODELS"):
        return Path(named)
    if is_checkout():
        return SHIPPED_DIR
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "repstream" / "models"


def _searched(models_dir: Path | None) -> tuple[Path, ...]:
    """Return the folders to look for models in: the one that was named, else one's own and the release's."""
    if models_dir is not None or "REPSTREAM_MODELS" in os.environ:
        return (models_dir or default_models_dir(),)
    return tuple(dict.fromkeys((default_models_dir(), SHIPPED_DIR)))


@dataclass(frozen=True, eq=False)
class ModelCard:
    """What is known of a model without making its classifier.

    Attributes
    ----------
    name, version : str
    labels : tuple of str
        In the order of the classifier's probabilities.
    features : FeatureSet
    window, hop : int
        Samples of the 50 Hz grid.
    card : dict
        The whole card.
    folder : Path
    """

    name: str
    version: str
    labels: tuple[str, ...]
    features: FeatureSet
    window: int
    hop: int
    card: dict[str, Any]
    folder: Path

    @property
    def id(self) -> str:
        """``name/version``."""
        return f"{self.name}/{self.version}"

    @property
    def label_share(self) -> float:
        """Share of a window's samples that need one label for it to be the window's truth."""
        return float(self.card.get("label_share", WHOLE))

    @property
    def model_file(self) -> str:
        """The name of the classifier's file."""
        return _model_file(self.card)

    def read_file(self, name: str) -> bytes:
        """Return the content of one of the card's files.

        Raises
        ------
        ModelError
            Where it is missing, or not what it was when the card was written.
        """
        return _read_file(self.folder, self.card, name)


def load_card(spec: str, models_dir: Path | None = None) -> ModelCard:
    """Read a model's card and hold its files against it; parameters and errors as of `open_card`."""
    return open_card(spec, models_dir)[0]


def open_card(spec: str, models_dir: Path | None = None) -> tuple[ModelCard, bytes]:
    """Read a model's card, hold its files against it, and return the classifier's file as it was hashed.

    Parameters
    ----------
    spec : str
        ``name/version``, or ``name`` for its newest version.
    models_dir : Path, optional
        Default: `default_models_dir`, and what came with the release.

    Raises
    ------
    ModelError
        Where it is missing, incomplete, altered, or wants another version of its features.
    """
    folder = find_model(spec, models_dir)
    card = _read_card(folder)
    stored = _read_file(folder, card, _model_file(card))
    _read_file(folder, card, REFERENCE_FILE)
    _check_card(folder, card)
    features = feature_set(str(card["feature_set"]))
    if not features.computes(str(card["feature_set_version"]), int(card["window"])):
        raise ModelError(
            f"{folder}: the model was trained on version {card['feature_set_version']} of the feature set "
            f"{features.name}, this release computes version {features.version}; retrain it: repstream train"
        )
    opened = ModelCard(
        name=str(card["name"]),
        version=str(card["version"]),
        labels=tuple(card["labels"]),
        features=features,
        window=int(card["window"]),
        hop=int(card["hop"]),
        card=card,
        folder=folder,
    )
    return opened, stored


def find_model(spec: str, models_dir: Path | None = None) -> Path:
    """Return the folder of ``name/version``, or of the newest version of ``name``.

    Raises
    ------
    ModelError
        Naming the models that there are.
    """
    name, _, version = spec.partition("/")
    folders = _searched(models_dir)
    # The release's own come last: nothing is taken for one of them.
    known = {found: folder for folder in folders for found in available_models(folder)}
    if not version:
        versions = sorted((v for n, v in known if n == name), key=_version_key)
        version = versions[-1] if versions else ""
    if (name, version) in known:
        return known[name, version] / name / version
    there = ", ".join(f"{n}/{v}" for n, v in known) or "none"
    where = " or ".join(map(str, folders))
    raise ModelError(f"there is no model {spec!r} in {where} (there: {there}); train one with: repstream train")


def available_models(models_dir: Path) -> list[tuple[str, str]]:
    """All (name, version) in a folder, a name's versions from oldest to newest."""
    found = [(p.parent.parent.name, p.parent.name) for p in models_dir.glob(f"*/*/{CARD_FILE}")]
    return sorted(found, key=lambda nv: (nv[0], _version_key(nv[1])))


def next_version(name: str, models_dir: Path | None = None) -> str:
    """One more than the newest whole-number version of a name."""
    versions = [v for folder in _searched(models_dir) for n, v in available_models(folder) if n == name]
    return str(max((int(v) for v in versions if v.isdigit()), default=0) + 1)


def _version_key(version: str) -> list[tuple[int, str]]:
    """Numbers within a version compare as numbers: 10 comes after 9."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.findall(r"\d+|\D+", version)]


def sha256(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card_digest(card: dict[str, Any]) -> str:
    """Hash a card's content, but for the hash itself."""
    content = {k: v for k, v in card.items() if k != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _model_file(card: dict[str, Any]) -> str:
    return PICKLE_FILE if MODEL_FILE not in card["files"] and PICKLE_FILE in card["files"] else MODEL_FILE


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
        raise ModelError(f"{path}: the card lacks {', '.join(missing)}; retrain the model: repstream train")
    return dict(card)


def _read_file(folder: Path, card: dict[str, Any], name: str) -> bytes:
    path = folder / name
    if name not in card["files"] or not path.is_file():
        raise ModelError(f"{folder}: {name} is missing; download the model again, or train it: repstream train")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != card["files"][name]:
        raise ModelError(
            f"{path}: its SHA-256 is not the card's: the file was altered or damaged, and is not loaded; "
            "download the model again, or retrain it: repstream train"
        )
    return content


def _check_card(folder: Path, card: dict[str, Any]) -> None:
    digest = card_digest(card)
    if card.get("card_sha256") != digest:
        raise ModelError(
            f"{folder / CARD_FILE}: the card was altered after training; download the model again, "
            "or retrain it: repstream train"
        )
    pinned = SHIPPED_CARDS.get(f"{folder.parent.name}/{folder.name}")
    if pinned not in (None, digest) and folder.parent.parent.resolve() == SHIPPED_DIR:
        raise ModelError(
            f"{folder / CARD_FILE}: this is not the model that this release came with; fetch the release anew, "
            "or keep a model of your own under another name or in a folder given by --models-dir"
        )
