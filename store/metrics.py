"""The store's metrics, on a registry that the caller gives; names as in docs/how-to/store.md."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from repstream.messages.topics import ALARMS, PREDICTIONS

REJECTED = ("unreadable", "refused")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class StoreMetrics:
    """All that a store exposes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"repstream_{name}", text, labels, registry=registry)

        self.predictions = counter("stored_predictions_total", "Predictions written; one written again counts again")
        self.alarms = counter("stored_alarms_total", "Alarms written, their ends too")
        self.seconds = Histogram(
            "repstream_store_seconds", "How long a batch took to be written", buckets=_SECONDS, registry=registry
        )
        self.failures = counter("store_failures_total", "Times that the database did not answer")
        self.rejected = counter("store_rejected_total", "Messages that were left out", ("reason",))
        self.expired = counter("store_expired_total", "Predictions and alarms deleted for their age")
        self.lag = Gauge("repstream_store_lag", "Messages in the log not written yet", ("topic",), registry=registry)
        for reason in REJECTED:
            self.rejected.labels(reason)
        for topic in (PREDICTIONS, ALARMS):
            self.lag.labels(topic)
