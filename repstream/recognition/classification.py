"""How often predictions are right: accuracy, per-label scores, confusion; imports errors only.

One definition for the monitor's metrics and for `repstream.recognition.evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    pairs = [(str(t), str(p)) for t, p in zip(truth, predicted, strict=True)]
    order = (*labels, *sorted({x for pair in pairs for x in pair} - set(labels)))
    at = {label: i for i, label in enumerate(order)}
    confusion = np.zeros((len(order), len(order)), dtype=np.int64)
    for true, answer in pairs:
        confusion[at[true], at[answer]] += 1
    right, support, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return Classification(
        enough=len(pairs) >= min_rows,
        rows=len(pairs),
        accuracy=_ratio(right.sum(), len(pairs)),
        labels=order,
        by_label={
            label: LabelScore(
                precision=_ratio(right[i], answered[i]),
                recall=_ratio(right[i], support[i]),
                f1=_ratio(2 * right[i], support[i] + answered[i]),
                support=int(support[i]),
            )
            for label, i in at.items()
        },
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def _ratio(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None
