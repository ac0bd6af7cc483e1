"""Learn what a live monitor needs to raise alarms, and set their thresholds by resampling hours of wear.

Each training subject in turn is left out: what faults look like, what known movement looks like and the
classifier are learned from the others, and the subject's sessions are resampled into hours of wear in which
nothing is wrong. So thresholds are measured on people outside the reference, without touching the model's own
held-out subjects.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from repstream.alarms.files import DriftModel
from repstream.alarms.recogniser import VARIANTS
from repstream.alarms.sums import MOST, Calibration, N
from repstream.arrays import FloatArray
from repstream.errors import RecordingError
from repstream.recognition.model import Model
from repstream.recordings.recording import Recording
from training.alarms.novelty import fit_novelty, scaled
from training.alarms.recogniser import HOP, fit_recogniser
from training.alarms.wear import ROWS_AN_HOUR, Judge, Wear, follow, resample
from training.dataset import build_dataset
from training.recipes import Recipe, find_recipe, fit

FALSE_ALARMS_A_DAY = 1.0
"""The budget: false alarms of all causes together, a device, in 24 hours of stable wear."""

# Chosen by leaving out each of the training subjects s01-s07 of SPAR (docs/decisions/0005-alarms.md).
_LEVEL_QUANTILE, _LEVEL_ABOVE, _LEAST_LEVEL = 90, 2.0, 2.5
_MARGIN = 1.2
_LEAST_THRESHOLD = 35.0
_GROW = 1.1


def calibrate(
    model: Model,
    recordings: Sequence[Recording],
    hours: float,
    seed: int,
    processes: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[DriftModel, dict[str, Any]]:
    """Make what belongs to a model.

    Parameters
    ----------
    model : Model
    recordings : sequence of Recording
        The ones it was trained on; of two subjects or more.
    hours : float
        Hours of stable wear to resample per device.

    Returns
    -------
    DriftModel, dict
        And how it was made, for its card.

    Raises
    ------
    RecordingError
        Where there are fewer than three subjects.
    """
    recipe = find_recipe(str(model.card["recipe"]))
    subjects = sorted({r.subject for r in recordings})
    if len(subjects) < 3:
        raise RecordingError(
            f"calibrating alarms leaves out one subject after the other and needs three or more; these recordings "
            f"are of {', '.join(subjects)}"
        )
    tasks = [(recipe.name, list(recordings), model.window, s, seed) for s in subjects]
    progress(f"learning from all but one of {len(subjects)} subjects, one after the other")
    with ProcessPoolExecutor(processes) as pool:
        judges = dict(zip(subjects, pool.map(_leave_out, tasks), strict=True))
        distances = np.concatenate([d for _, d in judges.values()])
        progress(f"resampling {hours:g} h of wear for each device")
        devices = sorted({r.device for r in recordings})
        worn = [
            (replace(judges[mine[0].subject][0], novelty=scaled(judges[mine[0].subject][0].novelty, distances)), mine)
            for mine in ([r for r in recordings if r.device == d] for d in devices)
        ]
        seeds = range(seed, seed + len(worn))
        wear = list(pool.map(resample, *zip(*worn, strict=True), [hours] * len(worn), seeds))
    calibration, alarms = set_thresholds(wear, progress)
    progress("learning from all of them")
    data = build_dataset(recordings, model.window, model.window)
    novelty = fit_novelty(model.features.compute(data.windows, data.sides), data.labels)
    drift = DriftModel(fit_recogniser(recordings, seed, progress), scaled(novelty, distances), calibration)
    total = hours * len(devices)
    card = {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "how": "each training subject left out in turn; whole sessions resampled into hours of stable wear",
        "subjects": subjects,
        "devices": len(devices),
        "hours": round(total, 1),
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
    return drift, card


def _leave_out(task: tuple[str, list[Recording], int, str, int]) -> tuple[Judge, FloatArray]:
    """Learn without one subject; return that and the distances of the subject's windows."""
    recipe, recordings, window, subject, seed = task
    others = [r for r in recordings if r.subject != subject]
    judge = learn(find_recipe(recipe), others, window, seed)
    theirs = build_dataset([r for r in recordings if r.subject == subject], window, HOP)
    return judge, judge.novelty.distance(judge.features.compute(theirs.windows, theirs.sides))


def learn(recipe: Recipe, recordings: Sequence[Recording], window: int, seed: int) -> Judge:
    """Learn all that a live monitor would know from some people; novelty is not scaled yet."""
    from threadpoolctl import threadpool_limits

    from repstream.features.sets import feature_set

    features = feature_set(recipe.features)
    apart = build_dataset(recordings, window, window)
    with threadpool_limits(limits=1):
        classifier = fit(recipe, build_dataset(recordings, window, 25), seed)
    novelty = fit_novelty(features.compute(apart.windows, apart.sides), apart.labels)
    return Judge(fit_recogniser(recordings, seed), novelty, features, classifier, window)


def set_thresholds(
    wear: Sequence[Wear], progress: Callable[[str], None] = lambda _: None
) -> tuple[Calibration, list[tuple[float, int]]]:
    """Choose levels and thresholds so that stable wear keeps the budget.

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
    while True:
        alarms = [(at_s, c.variant) for w in wear for at_s, c in follow(w, calibration) if c.began]
        progress(f"{len(alarms)} false alarms in {len(every) / ROWS_AN_HOUR:.0f} h, {allowed:.0f} allowed")
        if len(alarms) <= allowed:
            return calibration, alarms
        # Those that alarm most often are made less ready to; the others stay as quick as they are.
        often = np.bincount([v for _, v in alarms], minlength=N)
        grow = np.where(often > allowed / N, _GROW, 1.0)
        calibration = replace(calibration, threshold=calibration.threshold * grow)
