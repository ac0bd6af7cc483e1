"""Learn what a live monitor needs to raise alarms, and set their thresholds by resampling hours of wear.

Training subjects (or sessions or days, where the model was trained by these) are left out in turn: what faults look
like, what known movement looks like and the classifier are learned from the others, and what was left out is resampled
into hours of wear in which nothing is wrong. So thresholds are measured on people outside the reference, without touching
the model's own held-out subjects.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np

from repstream.alarms.files import DriftModel
from repstream.alarms.recogniser import VARIANTS, SignalRecogniser
from repstream.alarms.sums import MOST, Calibration, N
from repstream.arrays import FloatArray
from repstream.errors import RecordingError
from repstream.recognition.model import Model
from repstream.recordings.audit import Audit, audit
from repstream.recordings.recording import Recording
from repstream.recordings.splits import group_of, groups_of
from training.alarms.learn import Material, known_movement, learn, prepare
from training.alarms.novelty import scaled
from training.alarms.recogniser import HOP, Each, fit_recogniser
from training.alarms.wear import ROWS_AN_HOUR, Judge, Wear, by_wearer, false_alarms, resample
from training.dataset import build_dataset
from training.division import leave_one_out
from training.recipes import find_recipe

Progress = Callable[[str], None]

FALSE_ALARMS_A_DAY = 1.0
"""The budget: false alarms of all causes together, a device, in 24 hours of stable wear."""

# Chosen by leaving out each of the training subjects s01-s07 of SPAR (docs/decisions/0005-alarms.md).
_LEVEL_QUANTILE, _LEVEL_ABOVE, _LEAST_LEVEL = 90, 2.0, 2.5
_MARGIN = 1.2
_LEAST_THRESHOLD = 35.0
_GROW = 1.1
# Of more subjects, sessions or days, several are left out at a time.
_MOST_TURNS = 7
_MORE = {
    "subject": "add recordings of other people, name whose each is (repstream recordings convert … --subject S), or train "
    "with --split-by session or day",
    "session": "add recordings",
    "day": "add recordings of other days, or train with --split-by session",
}


def calibrate(
    model: Model,
    recordings: Sequence[Recording],
    hours: float,
    seed: int,
    processes: int = 1,
    progress: Progress = lambda _: None,
) -> tuple[DriftModel, dict[str, Any]]:
    """Make what belongs to a model.

    Parameters
    ----------
    model : Model
    recordings : sequence of Recording
        The ones it was trained on; of three subjects or more, or sessions or days, if it was trained by these.
    hours : float
        Hours of stable wear to resample per device.
    processes : int
        How many work side by side; the result does not depend on it.

    Returns
    -------
    DriftModel, dict
        And how it was made, for its card.

    Raises
    ------
    RecordingError
        Where there are fewer than three, or too little to learn from.
    """
    by = _grouping(model)
    turns = left_out_in_turn(recordings, by)
    progress(f"putting faults into {len(recordings)} recordings")
    with ProcessPoolExecutor(processes) as pool:
        recipe = find_recipe(str(model.card["recipe"]))
        material = prepare(recipe, recordings, model.window, seed, model.hop, model.label_share, by, pool.map)
    progress(f"learning from {len(material.examples)} windows of faults, and {len(turns)} times from a part of them")
    with ProcessPoolExecutor(processes, initializer=_take, initargs=(material,)) as pool:
        recogniser = pool.submit(_recogniser)  # the longest is begun first
        judges = []
        for turn, judge in zip(turns, pool.map(_learn_without, turns), strict=True):
            judges.append(judge)
            progress(f"learned without {by} {', '.join(turn)} ({len(judges)} of {len(turns)})")
        distances = _distances(judges, turns, recordings, model, by)
        judges = [replace(judge, novelty=scaled(judge.novelty, distances)) for judge in judges]
        progress(f"resampling {hours:g} h of wear for each device")
        turn_of = {group: i for i, turn in enumerate(turns) for group in turn}
        worn = by_wearer(recordings, [turn_of[group_of(r, by)] for r in recordings], model.window)
        judging, mine = [judges[turn] for turn, _ in worn], [recordings for _, recordings in worn]
        wear = list(pool.map(resample, judging, mine, repeat(hours), range(seed, seed + len(worn))))
        calibration, alarms = set_thresholds(wear, progress, pool.map)
        drift = DriftModel(recogniser.result(), scaled(known_movement(material), distances), calibration)
    return drift, _card(recordings, by, turns, wear, alarms, calibration, seed)


def audit_turns(model: Model, recordings: Sequence[Recording]) -> Audit:
    """Compare those that `calibrate` leaves out in turn with each other.

    Raises
    ------
    RecordingError
        Where there are fewer than three, or two have something in common, naming two recordings.
    """
    by = _grouping(model)
    turn_of = {group: ", ".join(turn) for turn in left_out_in_turn(recordings, by) for group in turn}
    return audit(recordings, [turn_of[group_of(r, by)] for r in recordings], by)


def _grouping(model: Model) -> str:
    """Tell what was left out together when the model was trained."""
    return str(model.card.get("split", {}).get("by", "subject"))


def left_out_in_turn(recordings: Sequence[Recording], by: str) -> list[list[str]]:
    """Divide subjects, sessions or days into those that are left out together.

    Raises
    ------
    RecordingError
        Where there are fewer than three.
    """
    groups = groups_of(recordings, by)
    if len(groups) < 3:
        raise RecordingError(
            f"calibrating alarms leaves out one {by} after the other and needs three or more; these recordings "
            f"are of {', '.join(groups)}; " + _MORE[by]
        )
    folds = leave_one_out(recordings, by).folds
    dealt = [folds[i::_MOST_TURNS] for i in range(min(_MOST_TURNS, len(folds)))]
    return [sorted(group for fold in some for group in fold.test) for some in dealt]


# In each process of the pool: large, and the same for all that is learned there.
_material: list[Material] = []


def _take(material: Material) -> None:
    _material[:] = [material]


def _recogniser() -> SignalRecogniser:
    (material,) = _material
    return fit_recogniser(material.examples, material.seed)


def _learn_without(groups: Sequence[str]) -> Judge:
    (material,) = _material
    return learn(material.without(groups))


def _distances(
    judges: Sequence[Judge], turns: Sequence[Sequence[str]], recordings: Sequence[Recording], model: Model, by: str
) -> FloatArray:
    """How far the windows of what was left out lie from the movement that is known without it."""
    data = build_dataset(recordings, model.window, HOP, model.label_share, by)
    features = model.features.compute(data.windows, data.sides)
    theirs = [features[np.isin(data.groups, turn)] for turn in turns]
    return np.concatenate([j.novelty.distance(f) for j, f in zip(judges, theirs, strict=True)])


def _card(
    recordings: Sequence[Recording],
    by: str,
    turns: Sequence[Sequence[str]],
    wear: Sequence[Wear],
    alarms: Sequence[tuple[float, int]],
    calibration: Calibration,
    seed: int,
) -> dict[str, Any]:
    total = sum(w.hours for w in wear)
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "how": f"training {by}s left out in turn; whole sessions resampled into hours of stable wear",
        "subjects": sorted({r.subject for r in recordings}),
        "left_out": {"by": by, "in_turn": turns},
        "devices": len(wear),
        "hours": round(total, 1),
        "minutes_recorded": round(sum(r.duration_s for r in recordings) / 60.0, 1),
        "budget_false_alarms_per_24_h": FALSE_ALARMS_A_DAY,
        "false_alarms": len(alarms),
        "false_alarms_per_24_h": round(len(alarms) / total * 24.0, 2),
        "false_alarms_in_the_first_hour": sum(at_s < 3600.0 for at_s, _ in alarms),
        "seed": seed,
        "thresholds": {
            f"{v.cause} {v.sensor}".strip(): round(float(t), 1)
            for v, t in zip(VARIANTS, calibration.threshold, strict=True)
        },
    }


def set_thresholds(
    wear: Sequence[Wear], progress: Progress = lambda _: None, each: Each = map
) -> tuple[Calibration, list[tuple[float, int]]]:
    """Choose levels and thresholds so that stable wear keeps the budget.

    Parameters
    ----------
    wear : sequence of Wear
    each : callable
        `map`, or the same in several processes.

    Returns
    -------
    Calibration
    list of (float, int)
        The false alarms that are left: s of wear of their device, variant.
    """
    every = np.concatenate([np.minimum(e, MOST) for w in wear for e, _ in w.sessions])
    means = np.array([np.minimum(e, MOST).mean(axis=0) for w in wear for e, _ in w.sessions if len(e)])
    level = np.maximum(_LEAST_LEVEL, np.percentile(means, _LEVEL_QUANTILE, axis=0) + _LEVEL_ABOVE)
    calibration = Calibration(every.mean(axis=0), level, _MARGIN, np.full(N, _LEAST_THRESHOLD))
    allowed = FALSE_ALARMS_A_DAY * len(every) / ROWS_AN_HOUR / 24.0
    by_device = list(each(false_alarms, wear, repeat(calibration)))
    while True:
        alarms = [alarm for found in by_device for alarm in found]
        progress(f"{len(alarms)} false alarms in {len(every) / ROWS_AN_HOUR:.0f} h, {allowed:.0f} allowed")
        if len(alarms) <= allowed:
            return calibration, alarms
        # Those that alarm most often are made less ready to; the others stay as quick as they are.
        often = np.bincount([v for _, v in alarms], minlength=N)
        grow = np.where(often > allowed / N, _GROW, 1.0)
        calibration = replace(calibration, threshold=calibration.threshold * grow)
        # Where no sum has reached its threshold, none reaches a higher one, and nothing else depends on it.
        again = [i for i, found in enumerate(by_device) if found]
        found_again = each(false_alarms, [wear[i] for i in again], repeat(calibration))
        for i, found in zip(again, found_again, strict=True):
            by_device[i] = found
