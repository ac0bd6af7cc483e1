"""How well a recipe recognises people it has never seen, and what that costs.

Leave one out: each subject (or session, or day) is predicted by a model trained on all others. Test windows do
not overlap. A recording's label is the one with the highest mean probability over its windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from repstream.arrays import BoolArray, FloatArray, TextArray
from repstream.errors import RecordingError
from repstream.features.sets import feature_set
from repstream.windows.share import WHOLE
from repstream.windows.truth import TRANSITION, judged
from training.dataset import Dataset, build_dataset, check_labels, count_windows
from training.division import Folds
from training.recipes import Recipe, fit


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out.

    Attributes
    ----------
    recipe : Recipe
    chosen : Folds
        Who was predicted by a model of whom.
    labels : tuple of str
    truth, predicted : ndarrays of str, shape (n_windows,)
    probabilities : ndarray, shape (n_windows, n_labels)
    window_accuracy, recording_accuracy : float
    per_group : dict
        Subject, session or day to (accuracy a window, accuracy a recording).
    confusion : ndarray of int, shape (n_labels, n_labels)
        Rows are the truth.
    cost : dict
        Seconds to train on all of them; µs a row at batches of 1, 16 and 256; kB pickled.
    """

    recipe: Recipe
    chosen: Folds
    labels: tuple[str, ...]
    data: Dataset
    predicted: TextArray
    probabilities: FloatArray
    window_accuracy: float
    recording_accuracy: float
    per_group: dict[str, tuple[float, float]]
    confusion: np.ndarray[Any, np.dtype[np.int64]]
    cost: dict[str, float] = field(default_factory=dict)


def cross_validate(
    recipe: Recipe,
    chosen: Folds,
    window: int,
    hop: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
    label_share: float = WHOLE,
) -> Evaluation:
    """Predict each fold by a model of the groups that it names.

    Parameters
    ----------
    chosen : Folds
        With labelled recordings.
    window, hop : int
        Samples; `hop` is that of the training windows, test windows do not overlap.
    label_share : float
        Share of a window's samples that need one label.

    Raises
    ------
    RecordingError
        Where a label has no window at all (see `check_labels`), a fold leaves nothing or one label to train on, or has
        windows of which none counts (see `judged_rows`).
    """
    features, recordings = feature_set(recipe.features), chosen.recordings
    features.check_window(window)
    train = build_dataset(recordings, window, hop, label_share, chosen.by)
    check_labels(recordings, train, window, hop, label_share, features.min_window)
    chosen.check()
    test = build_dataset(recordings, window, window, label_share, chosen.by)
    progress("windows: " + ", ".join(f"{label} {n}" for label, n in count_windows(train).items()))
    labels = tuple(sorted({*train.labels.tolist(), *test.labels.tolist()}))
    test = test.where(_counted_rows(chosen, train, test))
    progress(chosen.how)
    for fold in chosen.folds:
        known, own = _labels_of(train, fold.train), _labels_of(test, fold.test)
        if unlearnt := sorted(own - known):
            progress(
                f"{', '.join(unlearnt)}: only {fold.name} has any, so that no model of others can recognise it there"
            )
    probabilities = np.zeros((len(test), len(labels)))
    with threadpool_limits(limits=1):
        for fold in chosen.folds:
            rows = np.isin(test.groups, list(fold.test))
            if not rows.any():
                continue
            progress(f"{recipe.name}: leaving out {fold.name}")
            model = fit(recipe, train.where(np.isin(train.groups, list(fold.train))), seed)
            columns = np.array([labels.index(str(c)) for c in model.classes_])
            table = features.compute(test.windows[rows], test.sides[rows])
            probabilities[np.ix_(np.flatnonzero(rows), columns)] = model.predict_proba(table)
        progress(f"{recipe.name}: measuring cost")
        cost = _cost(recipe, train, seed)
    return _summarise(recipe, chosen, labels, test, probabilities, cost)


def _counted_rows(chosen: Folds, train: Dataset, test: Dataset) -> BoolArray:
    """Tell which test windows the model of their fold can be held to."""
    counted = np.zeros(len(test), dtype=np.bool_)
    for fold in chosen.folds:
        own = np.isin(test.groups, list(fold.test))
        if not own.any():  # too short for a window
            continue
        known = _labels_of(train, fold.train)
        if len(known) < 2:
            raise RecordingError(
                f"without {fold.name} there is {'one label' if known else 'no window'} left; a model needs two labels to tell "
                f"apart: add recordings of other exercises, or of other {chosen.by}s"
            )
        counted[own] = judged_rows(test.labels[own], known, fold.name)
    if not counted.any():
        raise RecordingError(
            f"no recording of {', '.join(f.name for f in chosen.folds)} holds a window of {test.windows.shape[2]} samples"
        )
    return counted


def _labels_of(data: Dataset, groups: Collection[str]) -> set[str]:
    return set(data.labels[np.isin(data.groups, list(groups))].tolist())


def judged_rows(truths: TextArray, labels: Container[str], whose: str) -> BoolArray:
    """Tell which windows a model that knows `labels` can be held to, shape (n_windows,).

    Raises
    ------
    RecordingError
        Naming whose windows they are, where there is none.
    """
    rows = judged(truths, labels)
    if not rows.any():
        raise RecordingError(
            f"each test window of {whose} holds more than one label, and the model does not know {TRANSITION}: "
            "add recordings in which a label lasts longer than a window"
        )
    return rows


def _summarise(
    recipe: Recipe,
    chosen: Folds,
    labels: tuple[str, ...],
    data: Dataset,
    probabilities: FloatArray,
    cost: dict[str, float],
) -> Evaluation:
    predicted = np.array(labels)[probabilities.argmax(axis=1)]
    right = predicted == data.labels
    recording_right: dict[str, tuple[str, bool]] = {}
    for name, rows in recording_rows(data):
        best = labels[int(probabilities[rows].mean(axis=0).argmax())]
        recording_right[name] = (str(data.groups[rows][0]), best == most_frequent(data.labels[rows]))
    per_group = {}
    for group in sorted(set(data.groups.tolist())):
        of_group = [ok for g, ok in recording_right.values() if g == group]
        per_group[group] = (float(right[data.groups == group].mean()), float(np.mean(of_group)))
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for truth, answer in zip(data.labels.tolist(), predicted.tolist(), strict=True):
        confusion[labels.index(truth), labels.index(answer)] += 1
    return Evaluation(
        recipe,
        chosen,
        labels,
        data,
        predicted,
        probabilities,
        float(right.mean()),
        float(np.mean([ok for _, ok in recording_right.values()])),
        per_group,
        confusion,
        cost,
    )


def recording_rows(data: Dataset) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]]:
    """Yield each recording's name and which rows are its."""
    for name in sorted(set(data.recordings.tolist())):
        yield name, data.recordings == name


def most_frequent(labels: TextArray) -> str:
    """Return the label that most windows of a recording have."""
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])


def _cost(recipe: Recipe, data: Dataset, seed: int) -> dict[str, float]:
    import pickle

    began = time.perf_counter()
    model = fit(recipe, data, seed)
    cost = {"train_s": time.perf_counter() - began, "pickled_kb": len(pickle.dumps(model)) / 1e3}
    table = feature_set(recipe.features).compute(data.windows[:256], data.sides[:256])
    for batch in (1, 16, 256):
        rows = table[:batch]
        model.predict_proba(rows)
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(3):
                model.predict_proba(rows)
            best = min(best, (time.perf_counter() - began) / 3)
        cost[f"predict_us_batch_{batch}"] = best / len(rows) * 1e6
    return cost


def confusion_text(evaluation: Evaluation) -> str:
    """Draw the confusion matrix with letters: rows are the truth, in % of the row."""
    labels = evaluation.labels
    width = max(6, *(len(label) + 1 for label in labels))
    lines = ["truth".ljust(width) + "".join(label.rjust(width) for label in labels)]
    for label, row in zip(labels, evaluation.confusion, strict=True):
        share = 100.0 * row / max(int(row.sum()), 1)
        lines.append(label.ljust(width) + "".join(f"{s:{width}.1f}" if s else "·".rjust(width) for s in share))
    return "\n".join(lines)


def confusion_picture(evaluation: Evaluation, path: str) -> None:
    """Draw the confusion matrix and the spread over subjects, sessions or days as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    labels = evaluation.labels
    share = evaluation.confusion / np.maximum(evaluation.confusion.sum(axis=1, keepdims=True), 1)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 5), gridspec_kw={"width_ratios": [1.2, 1]}, layout="constrained"
    )
    left.imshow(share, cmap="Blues", vmin=0, vmax=1)
    left.set(xticks=range(len(labels)), yticks=range(len(labels)), xlabel="predicted", ylabel="truth")
    left.set_xticklabels(labels)
    left.set_yticklabels(labels)
    for i in range(len(labels)):
        for j in range(len(labels)):
            if share[i, j] >= 0.005:
                colour = "white" if share[i, j] > 0.5 else "black"
                left.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    left.set_title(f"{evaluation.window_accuracy:.1%} of windows right, % of each exercise")
    groups = list(evaluation.per_group)
    for offset, (which, colour) in enumerate((("windows", "#4477aa"), ("recordings", "#ccbb44"))):
        values = [evaluation.per_group[g][offset] for g in groups]
        right.barh(np.arange(len(groups)) + 0.2 - 0.4 * offset, values, 0.38, label=which, color=colour)
    right.set_yticks(range(len(groups)), groups)
    right.set(xlim=(0, 1), xlabel="share right", title=f"each {evaluation.chosen.by}, by a model of others")
    right.invert_yaxis()
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
