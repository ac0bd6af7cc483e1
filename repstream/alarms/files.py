"""What a monitor needs to say what has changed, as files beside a model: loading and saving.

``drift.npz`` holds the numbers, ``drift.json`` its hash, the model it belongs to, and how it was made.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from repstream.alarms.novelty import Novelty
from repstream.alarms.recogniser import SignalRecogniser, pack, unpack
from repstream.alarms.sums import Calibration
from repstream.arrays import FloatArray
from repstream.errors import ModelError
from repstream.recognition.card import ModelCard

NUMBERS_FILE, CARD_FILE = "drift.npz", "drift.json"

_CURE = "recreate it with: repstream calibrate"


@dataclass(frozen=True, eq=False)
class DriftModel:
    """What faults look like, what known movement looks like, and when to raise an alarm."""

    recogniser: SignalRecogniser
    novelty: Novelty
    calibration: Calibration

    def evidence(self, summaries: npt.ArrayLike, features: npt.ArrayLike) -> FloatArray:
        """Evidence of windows, shape (n, n_variants).

        Parameters
        ----------
        summaries : ndarray, shape (n, n_summary)
        features : ndarray, shape (n, n_features)
        """
        faults = self.recogniser.evidence(summaries)
        return np.concatenate([faults, self.novelty.evidence(features)[:, None]], axis=1)


def save_drift(drift: DriftModel, model: ModelCard, card: dict[str, Any]) -> None:
    """Write the files into the model's folder; `card` says how it was made."""
    novelty, calibration = drift.novelty, drift.calibration
    data = pack(
        {
            **{f"recogniser_{k}": v for k, v in drift.recogniser.to_arrays().items()},
            "novelty_mean": novelty.mean,
            "novelty_deviation": novelty.deviation,
            "novelty_directions": novelty.directions,
            "novelty_points": novelty.points,
            "novelty_scale": np.array([novelty.usual, novelty.far]),
            "calibration_usual": calibration.usual,
            "calibration_level": calibration.level,
            "calibration_margin": np.array(calibration.margin),
            "calibration_threshold": calibration.threshold,
        }
    )
    (model.folder / NUMBERS_FILE).write_bytes(data)
    full = {"model_card_sha256": model.card["card_sha256"], "sha256": hashlib.sha256(data).hexdigest(), **card}
    (model.folder / CARD_FILE).write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")


def load_drift(model: ModelCard) -> DriftModel | None:
    """Read what belongs to a model; None where nothing was made for it.

    Raises
    ------
    ModelError
        Where a file is altered, damaged, or of another model.
    """
    path, card_path = model.folder / NUMBERS_FILE, model.folder / CARD_FILE
    if not path.exists() and not card_path.exists():
        return None
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        data = path.read_bytes()
        made_for, digest = card["model_card_sha256"], card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{card_path}: not readable with {NUMBERS_FILE} beside it ({error}); {_CURE}") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelError(f"{path}: its SHA-256 is not the one in {CARD_FILE}: it was altered or damaged; {_CURE}")
    if made_for != model.card["card_sha256"]:
        raise ModelError(f"{path}: it was made for another model than {model.id}; {_CURE}")
    try:
        return _from_arrays(unpack(data), path)
    except KeyError as error:
        raise ModelError(f"{path}: there is no {error} in it; {_CURE}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: no archive of numbers ({error}); {_CURE}") from None


def _from_arrays(arrays: dict[str, FloatArray], path: Path) -> DriftModel:
    scale = arrays["novelty_scale"]
    return DriftModel(
        SignalRecogniser.from_arrays(
            {k.removeprefix("recogniser_"): v for k, v in arrays.items() if k.startswith("recogniser_")}, path
        ),
        Novelty(
            arrays["novelty_mean"],
            arrays["novelty_deviation"],
            arrays["novelty_directions"],
            arrays["novelty_points"],
            float(scale[0]),
            float(scale[1]),
        ),
        Calibration(
            arrays["calibration_usual"],
            arrays["calibration_level"],
            float(arrays["calibration_margin"]),
            arrays["calibration_threshold"],
        ),
    )
