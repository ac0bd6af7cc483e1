"""Make one report and end: ``python -m monitor.reports.worker DATA.npz OUT.html SECONDS``; imports Evidently.

Started by `monitor.reports.maker`, which keeps it off the monitor's own process. The HTML carries its scripts,
fonts and data with it, and asks nothing of the network.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monitor.drift.checks import (
    CONFIDENCE_THRESHOLD,
    FEATURE_THRESHOLD,
    LABELS_METHOD,
    LABELS_THRESHOLD,
    MIN_ROWS,
    NUMBERS_METHOD,
    data_drift,
    matched_rows,
)
from monitor.drift.reference import Current, Reference
from repstream.arrays import IntArray
from repstream.windows.truth import judged

# The summary of one column takes 0.1 s: those that drifted most are looked into.
SUMMARIZED = 20


def load(path: Path) -> tuple[Reference, Current]:
    """Read what `monitor.reports.maker` wrote."""
    with np.load(path, allow_pickle=False) as saved:
        data = dict(saved)
    reference = Reference(
        features=data["reference_features"],
        names=tuple(map(str, data["names"])),
        labels=tuple(map(str, data["labels"])),
        prediction=data["reference_prediction"],
        label=data["reference_label"],
        confidence=data["reference_confidence"],
    )
    current = Current(
        features=data["current_features"],
        prediction=data["current_prediction"],
        confidence=data["current_confidence"],
        label=data["current_label"],
    )
    return reference, current


def make(reference: Reference, current: Current, out: Path) -> None:
    """Write the report: features against the matched reference, answers, data quality, classification.

    The last where labels of enough windows are known.
    """
    from evidently import DataDefinition, Dataset, MulticlassClassification, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import ClassificationPreset, DataDriftPreset, DataSummaryPreset

    names = list(reference.names)
    counted = judged(current.label, reference.labels)
    labelled = int(counted.sum()) >= MIN_ROWS
    current = replace(current, label=np.where(counted, current.label, ""))
    rows = matched_rows(reference, current.prediction)
    drift = data_drift(reference, current.features, current.prediction, min_rows=1)
    furthest = sorted(names, key=lambda n: drift.features[n].score, reverse=True)[:SUMMARIZED]
    metrics: list[Any] = [
        DataDriftPreset(columns=names, method=NUMBERS_METHOD, threshold=FEATURE_THRESHOLD),
        ValueDrift(column="prediction", method=LABELS_METHOD, threshold=LABELS_THRESHOLD),
        ValueDrift(column="confidence", method=NUMBERS_METHOD, threshold=CONFIDENCE_THRESHOLD),
        DataSummaryPreset(columns=["prediction", "confidence", *furthest]),
    ]
    if labelled:
        metrics.append(ClassificationPreset())
    definition = DataDefinition(
        numerical_columns=[*names, "confidence"],
        categorical_columns=["prediction", "label"] if labelled else ["prediction"],
        classification=[MulticlassClassification(target="label", prediction_labels="prediction")] if labelled else None,
    )
    then = Dataset.from_pandas(_frame(reference, names, rows), definition)
    now = Dataset.from_pandas(_frame(current, names, np.arange(len(current))), definition)
    Report(metrics).run(now, then).save_html(str(out))


def _frame(side: Reference | Current, names: list[str], rows: IntArray) -> Any:
    import pandas as pd

    frame = pd.DataFrame(side.features[rows], columns=names)
    frame["prediction"] = [str(x) for x in side.prediction[rows]]
    frame["label"] = [str(x) or None for x in side.label[rows]]  # Evidently leaves out what has none
    frame["confidence"] = side.confidence[rows]
    return frame


def main() -> None:
    """Read the arguments; see above."""
    data, out, seconds = sys.argv[1:]
    signal.alarm(int(seconds))
    os.nice(10)
    warnings.simplefilter("ignore")
    make(*load(Path(data)), Path(out))


if __name__ == "__main__":
    main()
