"""Tables of metrics: names, types, labels and help from their definitions, and what else there is to say of them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from monitor.metrics import MonitorMetrics
from predictor.metrics import PredictorMetrics
from producer.metrics import ProducerMetrics
from store.metrics import StoreMetrics

PREFIX = "repstream_"

# Said beside a metric's own help.
NOTES = {
    "consumer_lag": "Those that no fetch brings count too.",
    "active_devices": "A device counts as long as it is remembered.",
    "faults_injected_total": "Of `label-shift`, labels.",
    "producer_remaining_seconds": "Infinite is `+Inf`.",
    "feature_drift_score": "It is the normed Wasserstein distance from the reference, in its standard deviations.",
    "feature_drifted": "The threshold is 0.75.",
    "drifted_features_ratio": "From 0.2 on, the data are called drifted.",
    "target_drift_score": "It is the Jensen-Shannon distance from the reference.",
    "target_drifted": "The threshold is 0.65.",
    "confidence_drift_score": "It is the Wasserstein distance from the reference, in its standard deviations.",
    "confidence_drifted": "The threshold is 0.75.",
    "accuracy": "A window whose [truth](messages.md#labels) is `Transition` counts, here and in `f1`, `precision`, "
    "`recall` and `confusion`, only where the model knows `Transition`.",
    "accuracy_estimate": "It is the mean confidence: on held-out people 0.876 where the truth is 0.902; with the sensor turned by "
    "90° 0.66 where it is 0.44: it falls when the model fails, but not far enough.",
    "precision": "Of the windows predicted so, the share that is of that exercise.",
    "recall": "Of that exercise's windows, the share that is predicted so.",
    "confusion": "`label` is what was done. Only the model's own labels are shown.",
    "drift_alarms_open": "They are those on the topic `alarms` ([causes](messages.md#alarms)); `scope` is `device` or `all`.",
    "drift_alarms_total": "Those count whose beginning this process has reported.",
    "watched_devices": "Those silent for 24 h are forgotten.",
    "suspect_devices": "Signs are looked for in the last 6 s or so of devices heard of in the current windows: `stuck` (an axis repeats "
    "its value), `clipped` (a fifth of an axis's samples lie at its extremes), `implausible-units` (mean acceleration outside "
    "0.5–4 g, or much movement without turning).",
    "ledger_samples": "Of one group (`--predictor-group`): `sent`, and the fates `used`, `late`, `duplicate`, `backwards`, "
    "`gap`, `ended`, `skipped`, `missing`, `rejected`, `buffered`, `resampled` ([each explained](messages.md#ledger)).",
    "ledger_difference": "Any other value means that samples were lost on the way, or counted twice.",
    "labels_waiting": "A window that labels cover only in part waits, too.",
    "monitor_odd_messages_total": "Reasons: `other-model`, `features`, `clock-ahead`, `too-old`, `unknown-label`, `overlapping-label`, "
    "`unreadable`.",
    "store_rejected_total": "Reasons: `unreadable`; `refused` by the database.",
}  # fmt: skip


def _predictor(registry: CollectorRegistry) -> None:
    PredictorMetrics(registry, ("ABD",), "spar", "1")


def _producer(registry: CollectorRegistry) -> None:
    ProducerMetrics(registry)


def _monitor(registry: CollectorRegistry) -> None:
    MonitorMetrics(registry, ("accel_x_min",), ("ABD",))


def _store(registry: CollectorRegistry) -> None:
    StoreMetrics(registry)


SERVICES: dict[str, Callable[[CollectorRegistry], None]] = {
    "predictor": _predictor,
    "producer": _producer,
    "monitor": _monitor,
    "store": _store,
}


def metrics_of(service: str) -> dict[str, MetricWrapperBase]:
    """Return a service's metrics by their name without the prefix, in the order of their definition."""
    registry = CollectorRegistry()
    SERVICES[service](registry)
    found = {}
    for collector in list(registry._collector_to_names):
        assert isinstance(collector, MetricWrapperBase)
        name = collector._name.removeprefix(PREFIX)
        found[f"{name}_total" if collector._type == "counter" else name] = collector
    return found


def metrics_table(service: str) -> str:
    """Write the table of a service's metrics, in Markdown."""
    rows = ["| metric | type | what |", "| --- | --- | --- |"]
    for name, metric in metrics_of(service).items():
        labels = f"{{{','.join(metric._labelnames)}}}" if metric._labelnames else ""
        what = " ".join(filter(None, (metric._documentation.rstrip(".") + ".", NOTES.get(name))))
        rows.append(f"| `{name}{labels}` | {metric._type} | {what} |")
    return "\n".join(rows)
