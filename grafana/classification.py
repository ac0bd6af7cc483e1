"""Classification performance: how often the model is right, where labels tell, and where it errs."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.models import units

from grafana.panels import BAD, GOOD, WARNING, Panel, Query, lines, matrix, number, rows, thresholds

# The same as in prometheus/rules/model.yml; a test compares them.
ACCURACY_LIMIT, F1_LIMIT = 0.75, 0.5
# On people that it has not seen the model is right in 90 % of windows (docs/results.md).
ACCURACY_COLOURS = thresholds((ACCURACY_LIMIT, WARNING), (0.85, GOOD), base=BAD)
F1_COLOURS = thresholds((F1_LIMIT, WARNING), (0.75, GOOD), base=BAD)


def panels() -> Iterator[Panel | str]:
    """Yield the panels, and the titles of rows before theirs."""
    yield number(
        "Accuracy",
        "Share of the labelled predictions of the last monitoring windows that are right.",
        Query("repstream_accuracy"),
        units.PercentUnit,
        5,
        limits=ACCURACY_COLOURS,
        decimals=1,
    )
    yield number(
        "Expected accuracy",
        "What the model itself expects, without labels; it falls when the model fails, but not far enough.",
        Query("repstream_accuracy_estimate"),
        units.PercentUnit,
        5,
        limits=ACCURACY_COLOURS,
        decimals=1,
    )
    yield number(
        "Worst exercise's F1",
        "The lowest F1 of any exercise that labels were seen of.",
        Query("min(repstream_f1)"),
        units.PercentUnit,
        5,
        limits=F1_COLOURS,
        decimals=1,
    )
    yield number(
        "Labelled predictions",
        "Predictions of the last monitoring windows whose label has come; few of them make the figures jump.",
        Query("sum(repstream_confusion)"),
        units.Short,
        5,
    )
    yield number(
        "Waiting for labels",
        "Predictions remembered whose label has not come; labels come when an exercise is over.",
        Query("repstream_labels_waiting"),
        units.Short,
        4,
    )
    yield lines(
        "Accuracy, measured and expected",
        "By labels where they have come, and by the model's own confidence; the dashed line raises an alert.",
        [Query("repstream_accuracy", "measured"), Query("repstream_accuracy_estimate", "expected")],
        units.PercentUnit,
        12,
        limits=thresholds((ACCURACY_LIMIT, WARNING), base=BAD),
        high=1.0,
    )
    yield lines(
        "F1 of each exercise",
        "Precision and recall in one figure, 100 % is best; the dashed line raises an alert.",
        [Query('repstream_f1{label=~"$label"}', "{{label}}")],
        units.PercentUnit,
        12,
        limits=thresholds((F1_LIMIT, WARNING), base=BAD),
        high=1.0,
    )
    yield matrix(
        "What was done (rows), what was predicted (columns)",
        "Of the labelled predictions of each exercise, the share that was taken for each; right answers are the diagonal.",
        Query(
            'sum by (label, predicted) (repstream_confusion{label=~"$label"}) / on (label) group_left () '
            '(sum by (label) (repstream_confusion{label=~"$label"}) > 0)'
        ),
        14,
        rows="label",
        columns="predicted",
        unit=units.PercentUnit,
        height=10,
    )
    yield rows(
        "By exercise",
        "Precision: how many of what was named so is it. Recall: how many of what is so was named so.",
        [
            Query('max by (label) (repstream_precision{label=~"$label"})'),
            Query('max by (label) (repstream_recall{label=~"$label"})'),
            Query('max by (label) (repstream_f1{label=~"$label"})'),
        ],
        10,
        height=10,
        columns={"label": "Exercise", "Value #A": "Precision", "Value #B": "Recall", "Value #C": "F1"},
        unit=units.PercentUnit,
        decimals=0,
        limits=F1_COLOURS,
        fill="Precision|Recall|F1",
    )
    yield lines(
        "Recall of each exercise",
        "How many of an exercise's windows are recognised.",
        [Query('repstream_recall{label=~"$label"}', "{{label}}")],
        units.PercentUnit,
        8,
        high=1.0,
    )
    yield rows(
        "Most frequent mistakes",
        "Which exercise is taken for which other one, in labelled predictions of the last monitoring windows.",
        [Query('topk(10, repstream:confusion:wrong{label=~"$label"} > 0)')],
        8,
        columns={"label": "Done", "predicted": "Predicted", "Value": "Predictions"},
        decimals=0,
        sort_by="Predictions",
    )
    yield lines(
        "Labels coming in",
        "Labels that a replay sends, and labels that the monitor takes in; without them nothing here is measured.",
        [
            Query("sum(rate(repstream_labels_produced_total[1m]))", "sent"),
            Query("sum(rate(repstream_monitor_labels_total[1m]))", "taken in"),
        ],
        units.EventsPerSecond,
        8,
    )
