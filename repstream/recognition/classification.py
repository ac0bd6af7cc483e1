"""How often predictions are right: accuracy, per-label scores, confusion; imports errors only.

One definition for the monitor's metrics and for `repstream.recognition.evaluation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from repstream.arrays import TextArray
from repstream.errors import FeatureError


@dataclass(frozen=True)
class LabelScore:
    """One label's scores, 0–1; None where nothing is there to divide by."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Classification:
    """Predictions against the truth.

    Attributes
    ----------
    enough : bool
        Whether there are as many rows as were asked for; the numbers are exact either way.
    rows : int
        Windows that count.
    accuracy : float or None
        None without rows.
    labels : tuple of str
        The given ones in their order, then any others that occur, sorted.
    by_label : mapping of str to LabelScore
    confusion : tuple of tuple of int
        Windows by truth (row) and prediction (column), both in the order of `labels`.
    """

    enough: bool
    rows: int
    accuracy: float | None
    labels: tuple[str, ...]
    by_label: Mapping[str, LabelScore]
    confusion: tuple[tuple[int, ...], ...]


def classification(
    labels: Sequence[str], truth: TextArray, predicted: TextArray, *, min_rows: int = 0
) -> Classification:
    """Score answers whose truth is known.

    Parameters
    ----------
    labels : sequence of str
        The model's; others that occur are added after them.
    truth, predicted : ndarray of str, shape (n_rows,)
    min_rows : int
        Fewest windows that `Classification.enough` is true from.

    Raises
    ------
    FeatureError
        Where the two differ in length.
    """
    if len(truth) != len(predicted):
        raise FeatureError(f"there are {len(predicted)} predictions, but {len(truth)} truths")
    order = (*labels, *sorted({*truth.tolist(), *predicted.tolist()} - set(labels)))
    if not len(truth):
        nothing = LabelScore(None, None, None, 0)
        none = tuple(0 for _ in order)
        return Classification(min_rows <= 0, 0, None, order, dict.fromkeys(order, nothing), tuple(none for _ in order))
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    scores = precision_recall_fscore_support(truth, predicted, labels=order, zero_division=np.nan)
    return Classification(
        enough=len(truth) >= min_rows,
        rows=len(truth),
        accuracy=float(accuracy_score(truth, predicted)),
        labels=order,
        by_label={
            label: LabelScore(_known(precision), _known(recall), _known(f1), int(support))
            for label, precision, recall, f1, support in zip(order, *scores, strict=True)
        },
        confusion=tuple(map(tuple, confusion_matrix(truth, predicted, labels=order).tolist())),
    )


def _known(score: float) -> float | None:
    """Return a score, None where there was nothing to divide by."""
    return None if math.isnan(score) else float(score)
