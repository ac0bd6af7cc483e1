"""Live predictions: what is predicted now, how soon, for how many."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.models import units

from grafana.panels import BAD, WARNING, Panel, Query, bars, density, lines, number, thresholds

PREDICTED = 'repstream_predictions_total{label=~"$label", instance=~"$instance"}'
LATENCY = "repstream_prediction_latency_seconds_bucket"
# The same as in prometheus/rules/services.yml; a test compares them.
LATENCY_LIMIT_S = 0.5
LATENCY_COLOURS = thresholds((LATENCY_LIMIT_S / 2, WARNING), (LATENCY_LIMIT_S, BAD))


def latency(quantile: float) -> str:
    """Say in PromQL how soon that share of predictions stood."""
    return f'histogram_quantile({quantile:g}, sum by (le) (rate({LATENCY}{{instance=~"$instance"}}[$__rate_interval])))'


def panels() -> Iterator[Panel | str]:
    """Yield the panels, and the titles of rows before theirs."""
    yield number(
        "Predictions per second",
        "Predictions that were committed and can be read, of the exercises chosen above.",
        Query(f"sum(rate({PREDICTED}[$__rate_interval]))"),
        units.EventsPerSecond,
        4,
    )
    yield number(
        "Active devices",
        "Devices that the predictors remember: they have sent packets within the last quarter of an hour.",
        Query('sum(repstream_active_devices{instance=~"$instance"})'),
        units.Short,
        4,
    )
    yield number(
        "Latency, p99",
        "99 of 100 predictions stand this soon after their newest sample was taken; a replay faster than life shows "
        "how old its samples pretend to be.",
        Query(latency(0.99)),
        units.Seconds,
        4,
        limits=LATENCY_COLOURS,
        link="repstream-pipeline",
    )
    yield number(
        "Expected accuracy",
        "The accuracy that the model itself expects, from its confidences, without any label.",
        Query("repstream_accuracy_estimate"),
        units.PercentUnit,
        4,
        decimals=1,
        link="repstream-classification",
    )
    yield number(
        "Alarms open",
        "Alarms of the monitor that have begun and are not over; look closer for their causes.",
        Query("sum(repstream_drift_alarms_open)"),
        units.Short,
        4,
        limits=thresholds((1, BAD)),
        link="repstream-data-drift",
    )
    yield number(
        "Model",
        "The model that the predictors use, name/version; two names mean that predictors differ.",
        Query('max by (name, version) (repstream_model_info{instance=~"$instance"})', "{{name}}/{{version}}"),
        units.NoUnit,
        4,
        name=True,
        trend=False,
    )
    yield lines(
        "Predictions by exercise",
        "How many predictions per second name each exercise.",
        [Query(f"sum by (label) (rate({PREDICTED}[$__rate_interval]))", "{{label}}")],
        units.EventsPerSecond,
        16,
        height=10,
        stacked="normal",
    )
    yield bars(
        "Share of each exercise, last minute",
        "Of the predictions of the last minute, how many name each exercise.",
        Query(
            f"sum by (label) (rate({PREDICTED}[1m])) / ignoring (label) group_left () sum(rate({PREDICTED}[1m]))",
            "{{label}}",
        ),
        units.PercentUnit,
        8,
        height=10,
        high=1.0,
    )
    yield lines(
        "From sample to prediction",
        "How soon half, 95 and 99 of 100 predictions stand after their newest sample was taken.",
        [Query(latency(q), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
        units.Seconds,
        12,
        limits=thresholds((LATENCY_LIMIT_S, BAD)),
    )
    yield density(
        "All latencies",
        "How many predictions took how long: the darker, the more; shows a second hump that quantiles hide.",
        Query(f'sum by (le) (increase({LATENCY}{{instance=~"$instance"}}[$__rate_interval]))', "{{le}}").buckets("A"),
        units.Short,
        12,
        height=8,
        scheme="Blues",
        axis_unit=units.Seconds,
    )
    yield lines(
        "What comes in",
        "Samples a second that the predictors read; 50 for each device that is worn.",
        [Query('sum(rate(repstream_samples_total{instance=~"$instance"}[$__rate_interval]))', "samples a second")],
        units.EventsPerSecond,
        12,
    )
    yield lines(
        "Devices over time",
        "Devices that the predictors remember, and wearers that a replay has under way.",
        [
            Query('sum(repstream_active_devices{instance=~"$instance"})', "devices remembered"),
            Query("sum(repstream_active_wearers)", "wearers replayed"),
        ],
        units.Short,
        12,
    )
