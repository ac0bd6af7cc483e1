"""Data drift and target drift: whether samples and answers still look like the model's reference."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.models import units

from grafana.panels import (
    BAD,
    GOOD,
    QUIET,
    WARNING,
    Panel,
    Query,
    bars,
    density,
    lines,
    number,
    rows,
    states,
    thresholds,
)
from monitor.drift.checks import CONFIDENCE_THRESHOLD, DRIFTED_SHARE, FEATURE_THRESHOLD, LABELS_THRESHOLD

SHARE_COLOURS = thresholds((DRIFTED_SHARE / 2, WARNING), (DRIFTED_SHARE, BAD))
SCORE = 'repstream_feature_drift_score{feature=~"$feature"}'
# Names begin with their axis; those of two axes or none with what they are.
PART = '"part", "$1", "feature", "(accel_[xyz]|gyro_[xyz]|[a-z]+)_.*"'
PREDICTED = 'repstream_predictions_total{label=~"$label"}'


def data_drift() -> Iterator[Panel | str]:
    """Yield the panels of data drift, and the titles of rows before theirs."""
    yield number(
        "Drifted features",
        f"Share of the features that differ from the reference; from {DRIFTED_SHARE:.0%} on the data are called drifted.",
        Query("repstream_drifted_features_ratio"),
        units.PercentUnit,
        4,
        limits=SHARE_COLOURS,
        decimals=1,
    )
    yield number(
        "Furthest feature",
        f"The largest distance of any feature, in standard deviations of the reference; drifted from "
        f"{FEATURE_THRESHOLD:g} on.",
        Query("max(repstream_feature_drift_score)"),
        units.NoUnit,
        4,
        limits=thresholds((FEATURE_THRESHOLD, BAD)),
        decimals=2,
    )
    yield number(
        "Alarms open",
        "Alarms of the monitor that have begun and are not over.",
        Query("sum(repstream_drift_alarms_open)"),
        units.Short,
        4,
        limits=thresholds((1, BAD)),
    )
    yield number(
        "Suspect devices",
        "Devices whose recent signal looks wrong in some way, however the features look.",
        Query("sum(repstream_suspect_devices)"),
        units.Short,
        4,
        limits=thresholds((1, WARNING)),
    )
    yield number(
        "Devices watched",
        "Devices whose recent samples the monitor keeps an eye on, each by itself.",
        Query("sum(repstream_watched_devices)"),
        units.Short,
        4,
    )
    yield number(
        "Predictions compared",
        "Predictions of the last monitoring windows that are compared with the reference; too few are not judged.",
        Query("repstream_current_rows"),
        units.Short,
        4,
    )
    yield lines(
        "Share of drifted features",
        "The dashed line is where the data as a whole are called drifted.",
        [Query("repstream_drifted_features_ratio", "drifted features")],
        units.PercentUnit,
        12,
        limits=thresholds((DRIFTED_SHARE, BAD)),
    )
    yield states(
        "Open alarms by cause",
        "What the monitor takes for the cause, for how long, and whether one device or all of them are meant.",
        Query("sum by (cause, scope) (repstream_drift_alarms_open)", "{{cause}}, {{scope}}"),
        12,
        texts={"0": ("–", QUIET)},
        limits=thresholds((1, BAD), base=QUIET),
    )
    yield density(
        "Every feature's distance from the reference",
        f"One row a feature, in standard deviations of the reference: the darker, the further; {FEATURE_THRESHOLD:g} is "
        "the middle of the scale and the limit.",
        Query(f"max by (feature) ({SCORE})", "{{feature}}").over_time("A"),
        units.NoUnit,
        16,
        height=20,
        scheme="Oranges",
        low=0.0,
        high=2 * FEATURE_THRESHOLD,
    )
    yield rows(
        "Furthest features now",
        f"The twenty features furthest from the reference, in its standard deviations; drifted from {FEATURE_THRESHOLD:g} on.",
        [Query(f"topk(20, max by (feature) ({SCORE}))")],
        8,
        height=20,
        columns={"feature": "Feature", "Value": "Distance"},
        limits=thresholds((FEATURE_THRESHOLD / 2, WARNING), (FEATURE_THRESHOLD, BAD)),
        sort_by="Distance",
        fill="Distance",
    )
    yield states(
        "Drifted features by axis",
        "Share of each axis's features that have drifted: one axis alone points at a sensor, all of them at how it is worn.",
        Query(f"avg by (part) (label_replace(repstream_feature_drifted, {PART}))", "{{part}}"),
        12,
        height=10,
        limits=SHARE_COLOURS,
        unit=units.PercentUnit,
    )
    yield states(
        "Suspect devices by sign",
        "Devices whose recent samples stand still, are cut off, cannot be in the unit they are sent in, or have gaps.",
        Query("sum by (sign) (repstream_suspect_devices)", "{{sign}}"),
        6,
        height=10,
        limits=thresholds((1, WARNING)),
    )
    yield rows(
        "Alarms in this time range",
        "How many alarms began within the time range shown above, by cause.",
        [Query("sort_desc(sum by (cause, scope) (increase(repstream_drift_alarms_total[$__range])) > 0)")],
        6,
        height=10,
        columns={"cause": "Cause", "scope": "Scope", "Value": "Alarms"},
        decimals=0,
        sort_by="Alarms",
    )


def target_drift() -> Iterator[Panel | str]:
    """Yield the panels of target drift, and the titles of rows before theirs."""
    yield number(
        "Distance of the exercises' mix",
        f"Jensen-Shannon distance of the predicted exercises from the reference's; drifted from {LABELS_THRESHOLD:g} on.",
        Query("repstream_target_drift_score"),
        units.NoUnit,
        6,
        limits=thresholds((LABELS_THRESHOLD / 2, WARNING), (LABELS_THRESHOLD, BAD)),
        decimals=2,
    )
    yield number(
        "Distance of the confidences",
        f"How far the model's confidences are from those on its reference, in standard deviations; drifted from "
        f"{CONFIDENCE_THRESHOLD:g} on.",
        Query("repstream_confidence_drift_score"),
        units.NoUnit,
        6,
        limits=thresholds((CONFIDENCE_THRESHOLD / 2, WARNING), (CONFIDENCE_THRESHOLD, BAD)),
        decimals=2,
    )
    yield number(
        "Mean confidence",
        "The mean probability of the answers, which is also the accuracy that the model expects.",
        Query("repstream_accuracy_estimate"),
        units.PercentUnit,
        6,
        decimals=1,
    )
    yield number(
        "Predictions compared",
        "Predictions of the last monitoring windows that are compared with the reference; too few are not judged.",
        Query("repstream_current_rows"),
        units.Short,
        6,
    )
    yield lines(
        "Distance of the exercises' mix",
        "The dashed line is where other exercises are predicted than the reference has.",
        [Query("repstream_target_drift_score", "exercises")],
        units.NoUnit,
        12,
        limits=thresholds((LABELS_THRESHOLD, BAD)),
        high=0.85,
    )
    yield lines(
        "Distance of the confidences",
        "The dashed line is where the model is called unsure (or too sure).",
        [Query("repstream_confidence_drift_score", "confidences")],
        units.NoUnit,
        12,
        limits=thresholds((CONFIDENCE_THRESHOLD, BAD)),
    )
    yield lines(
        "The exercises' mix",
        "Share of each exercise in what is predicted, over the last minute of each moment.",
        [Query(f"sum by (label) (rate({PREDICTED}[1m]))", "{{label}}")],
        units.EventsPerSecond,
        16,
        height=10,
        stacked="percent",
    )
    yield rows(
        "The mix now and before",
        "Share of each exercise in the predictions of the last five minutes and of the last hour.",
        [
            Query(
                f"sum by (label) (rate({PREDICTED}[{span}])) / ignoring (label) group_left () "
                f"sum(rate({PREDICTED}[{span}]))"
            )
            for span in ("5m", "1h")
        ],
        8,
        height=10,
        columns={"label": "Exercise", "Value #A": "Last 5 minutes", "Value #B": "Last hour"},
        unit=units.PercentUnit,
        decimals=0,
        sort_by="Last 5 minutes",
    )
    yield states(
        "Verdicts",
        "Whether exercises and confidences are called drifted, over time.",
        Query(
            'label_replace(max(repstream_target_drifted), "what", "exercises", "", "") or '
            'label_replace(max(repstream_confidence_drifted), "what", "confidences", "", "")',
            "{{what}}",
        ),
        10,
        height=7,
        texts={"0": ("as in the reference", GOOD), "1": ("drifted", BAD)},
    )
    yield bars(
        "Most frequent exercises, time range",
        "Predictions of each exercise within the time range shown above.",
        Query(f"sort_desc(sum by (label) (increase({PREDICTED}[$__range])))", "{{label}}"),
        units.Short,
        7,
        height=7,
    )
    yield lines(
        "Rows compared",
        "Predictions of the last monitoring windows, and rows of the model's reference that they are compared with.",
        [Query("repstream_current_rows", "predictions"), Query("repstream_reference_rows", "reference")],
        units.Short,
        7,
        height=7,
    )
