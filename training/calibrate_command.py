"""``repstream calibrate``, and what ``repstream train --calibrate`` does after training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repstream.service.options import DEFAULT_MODEL, JsonOutput, ModelName, ModelsDir

if TYPE_CHECKING:
    from repstream.recognition.model import Model
    from repstream.recordings.recording import Recording

Hours = Annotated[float, typer.Option(min=1.0, help="Hours of stable wear to resample per device.")]
Processes = Annotated[int, typer.Option(min=1, help="Number of parallel processes.")]
Seed = Annotated[int, typer.Option(help="Random seed.", envvar="REPSTREAM_SEED")]
AuditOption = Annotated[
    bool,
    typer.Option(
        "--audit",
        help="Prove that no subject, session or stretch of movement is on two sides; copies are found by their content.",
    ),
]
DEFAULT_HOURS = 12.0
DEFAULT_PROCESSES = 2

# None in so many hours is what a rate of one in 24 h leaves with a probability of 5 % (the rule of three).
_TELLING_HOURS = 72.0


def _progress(text: str) -> None:
    typer.echo(text, err=True)


def calibrate(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]…",
            help="The recordings that the model was trained on, of three subjects (or sessions, or days, as it was "
            "trained) or more. Default: those of spar.",
        ),
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    models_dir: ModelsDir = None,
    hours: Hours = DEFAULT_HOURS,
    processes: Processes = DEFAULT_PROCESSES,
    seed: Seed = 0,
    audit: AuditOption = False,
    as_json: JsonOutput = False,
) -> None:
    """Learn what faults look like, and set the thresholds of a model's alarms, on people outside its reference."""
    from repstream.errors import SettingsError
    from repstream.recognition.model import load_model
    from repstream.recordings.catalogue import resolve
    from training.train import without_labels

    loaded = load_model(model, models_dir)
    known = {entry["name"] for entry in loaded.card["data"]}
    found = [r for r in resolve(recordings or ["spar/*"]) if r.name in known]
    if not found:
        raise SettingsError(f"none of these recordings was used to train {loaded.id}; name the recordings that were")
    labels = {label for r in found for _, _, label in r.label_intervals()}
    found = without_labels(found, sorted(labels.intersection(loaded.card.get("without", []))))
    card = calibrate_model(loaded, found, hours, seed, processes, _progress, audited=audit)
    typer.echo(json.dumps(card, indent=1) if as_json else summary(loaded.folder, card))


def calibrate_model(
    model: Model,
    recordings: Sequence[Recording],
    hours: float,
    seed: int,
    processes: int,
    progress: Callable[[str], None] = _progress,
    *,
    audited: bool = False,
) -> dict[str, Any]:
    """Calibrate a model on the recordings that it was trained on, and write what comes of it beside it.

    Where `audited`, those that are left out in turn are compared with each other first.

    Returns
    -------
    dict
        How it was made (see `training.alarms.calibrate.calibrate`).

    Raises
    ------
    RecordingError
        Where the recordings are of too few people, or too short, or the audit finds something on two sides.
    SettingsError
        Where a process did not live to its end.
    """
    from repstream.alarms.files import save_drift
    from repstream.errors import SettingsError
    from training.alarms.calibrate import audit_turns, calibrate

    found = audit_turns(model, recordings) if audited else None
    if found is not None:
        progress(found.text())
    try:
        drift, card = calibrate(model, recordings, hours, seed, processes, progress)
    except BrokenExecutor as error:
        raise SettingsError(
            "a process was ended from outside, probably for lack of memory; calibrate with --processes 1, "
            "fewer --hours or fewer recordings"
        ) from error
    if found is not None:
        card["audit"] = found.as_dict()
    save_drift(drift, model, card)
    if card["hours"] < _TELLING_HOURS:
        progress(
            f"{card['hours']:g} h of wear are too few to show that the budget of {card['budget_false_alarms_per_24_h']:g} "
            f"false alarm in 24 h is kept; use --hours {math.ceil(_TELLING_HOURS / card['devices'])} or more"
        )
    return card


def calibrate_trained(
    trained: dict[str, Any],
    models_dir: Path,
    recordings: Sequence[Recording],
    hours: float,
    seed: int,
    processes: int,
    as_json: bool,
) -> dict[str, Any]:
    """Calibrate a model that has just been trained, given its card; say what came of it unless it is asked for as JSON.

    Raises
    ------
    SettingsError
        Saying that the model is there nevertheless, and why it is not calibrated.
    """
    from repstream.errors import RepstreamError, SettingsError
    from repstream.recognition.model import load_model

    name = f"{trained['name']}/{trained['version']}"
    try:
        loaded = load_model(name, models_dir)
        card = calibrate_model(loaded, recordings, hours, seed, processes)
    except RepstreamError as error:
        raise SettingsError(
            f"{models_dir / name} is trained and can be used, but its alarms are not calibrated: {error}"
        ) from error
    if not as_json:
        typer.echo(summary(loaded.folder, card))
    return card


def summary(folder: Path, card: dict[str, Any]) -> str:
    """Word what a calibration came to."""
    from repstream.alarms.files import NUMBERS_FILE

    by = card["left_out"]["by"]
    whose = "people" if by == "subject" else f"{by}s"
    return (
        f"{folder / NUMBERS_FILE}: {card['false_alarms']} false alarms in {card['hours']:g} h of stable wear "
        f"of {whose} outside the reference, {card['false_alarms_per_24_h']:g} in 24 h"
    )
