"""Train a model and write it with its card and reference windows."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from repstream.errors import ModelError, SettingsError
from repstream.features.sets import feature_set
from repstream.recognition import estimators
from repstream.recognition.card import (
    CARD_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    card_digest,
    sha256,
)
from repstream.recognition.model import installed_libraries
from repstream.recordings.axes import AXES
from repstream.recordings.recording import Recording
from repstream.recordings.tables import write_table
from repstream.windows.share import WHOLE
from training.dataset import build_dataset, count_windows
from training.division import Division, leave_one_out
from training.evaluate import Evaluation, cross_validate, judged_rows, most_frequent, recording_rows
from training.provenance import data_section
from training.recipes import ROTATION_SD_DEG, Recipe, fit


def without_labels(recordings: Sequence[Recording], labels: Sequence[str]) -> list[Recording]:
    """Leave out the samples with these labels: a gap in the clock, across which no window goes.

    Raises
    ------
    SettingsError
        For a label that no recording has.
    """
    known = {str(label) for r in recordings if r.labels is not None for label in np.unique(r.labels)}
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise SettingsError(f"no recording is labelled {unknown[0]!r}; there are {', '.join(sorted(known))}")
    left = []
    for recording in recordings:
        keep = ~np.isin(recording.labels, labels) if labels and recording.labels is not None else None
        if keep is None or keep.all():
            left.append(recording)
        elif keep.any():
            assert recording.labels is not None
            left.append(
                replace(
                    recording,
                    time_s=recording.time_s[keep],
                    values=recording.values[keep],
                    labels=recording.labels[keep],
                )
            )
    return left


def train(
    recipe: Recipe,
    division: Division,
    name: str,
    version: str,
    models_dir: Path,
    window: int,
    hop: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
    without: Sequence[str] = (),
    label_share: float = WHOLE,
) -> dict[str, Any]:
    """Train on one part of a division, test on the other, write the model; return its card.

    `without` names the labels that were left out of both, for the card; `label_share` is the share of a
    window's samples that need one label.

    The reference windows are the training recordings' own, without overlap, each predicted by a model
    that had not seen its subject (or session, or day): so confidence and errors are those to expect of new ones.

    Raises
    ------
    ModelError
        Where that version is there already, or the recipe's classifier cannot be stored.
    """
    folder = models_dir / name / version
    if folder.exists():
        raise ModelError(f"{folder} already exists; choose another --version, or remove it")
    recordings, held_out = division.train, division.held_out
    described = data_section(recordings, held_out)
    cross = cross_validate(recipe, leave_one_out(recordings, division.by), window, hop, seed, progress, label_share)
    progress("training on all of them")
    data = build_dataset(recordings, window, hop, label_share)
    with threadpool_limits(limits=1):
        estimator = fit(recipe, data, seed)
    labels = [str(c) for c in estimator.classes_]
    stored = estimators.pack(estimator)
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(stored)
    _write_reference(cross, folder / REFERENCE_FILE)
    features = feature_set(recipe.features)
    card: dict[str, Any] = {
        "name": name,
        "version": version,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "recipe": recipe.name,
        "recipe_text": recipe.text,
        "labels": labels,
        "feature_set": features.name,
        "feature_set_version": features.version,
        "features": list(features.names),
        "window": window,
        "hop": hop,
        "label_share": label_share,
        "windows": count_windows(data),
        "rate_hz": 50,
        "units": {"accel": "g", "gyro": "deg/s", "axes": list(AXES)},
        "seed": seed,
        "augmentation": {"rotated_copies": recipe.rotated_copies, "rotation_sd_deg": ROTATION_SD_DEG},
        **described,
        "subjects": {
            "train": sorted({r.subject for r in recordings}),
            "held_out": sorted({r.subject for r in held_out} - {r.subject for r in recordings}),
        },
        "split": division.as_dict(),
        "without": sorted(without),
        "scores": _scores(estimator, cross, held_out, window, label_share),
        "libraries": installed_libraries(),
        "python": platform.python_version(),
        "commit": _commit(),
        "files": {f: sha256(folder / f) for f in (MODEL_FILE, REFERENCE_FILE)},
    }
    card["card_sha256"] = card_digest(card)
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def _write_reference(cross: Evaluation, path: Path) -> None:
    data = cross.data
    features = feature_set(cross.recipe.features)
    table = features.compute(data.windows, data.sides)
    columns: dict[str, Any] = {name: table[:, i] for i, name in enumerate(features.names)}
    columns |= {
        "prediction": cross.predicted,
        "label": data.labels,
        "confidence": cross.probabilities.max(axis=1),
        "subject": data.subjects,
        "recording": data.recordings,
        "index": data.index,
    }
    write_table(columns, path)


def _scores(
    estimator: Any,
    cross: Evaluation,
    held_out: Sequence[Recording],
    window: int,
    label_share: float,
) -> dict[str, Any]:
    by = cross.chosen.by
    scores: dict[str, Any] = {
        f"leave_one_training_{by}_out": {
            "how": f"{cross.chosen.how.replace(f'each {by}', f'each training {by}')}; windows without overlap",
            "window_accuracy": round(cross.window_accuracy, 4),
            "recording_accuracy": round(cross.recording_accuracy, 4),
            "windows": len(cross.data),
        }
    }
    if held_out:
        data = build_dataset(held_out, window, window, label_share)
        known = [str(c) for c in estimator.classes_]
        data = data.where(judged_rows(data.labels, known, f"the held-out {by}s"))
        table = feature_set(cross.recipe.features).compute(data.windows, data.sides)
        probabilities = estimator.predict_proba(table)
        answers = estimator.classes_[probabilities.argmax(axis=1)]
        by_recording = [
            estimator.classes_[probabilities[rows].mean(axis=0).argmax()] == most_frequent(data.labels[rows])
            for _, rows in recording_rows(data)
        ]
        unseen = "people" if by == "subject" else f"{by}s"
        scores[f"held_out_{by}s"] = {
            "how": f"this very model on {unseen} it has not seen; windows without overlap",
            "window_accuracy": round(float((answers == data.labels).mean()), 4),
            "recording_accuracy": round(float(np.mean(by_recording)), 4),
            "windows": len(data),
        }
    return scores


def _commit() -> str:
    """Name the project's commit where this is a checkout, else ``unknown``."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
