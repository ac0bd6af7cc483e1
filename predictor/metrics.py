"""The predictor's metrics, on a registry that the caller gives; names as in docs/reference/metrics.md."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from predictor.engine.session import Counts
from repstream.messages.fields import REJECT_REASONS

# From a packet that is predicted at once to a backlog of half a minute.
_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class PredictorMetrics:
    """All that a predictor exposes."""

    def __init__(self, registry: CollectorRegistry, labels: tuple[str, ...], name: str, version: str) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"repstream_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"repstream_{name}", text, labels, registry=registry)

        self.packets = counter("packets_consumed_total", "Packets read from samples")
        self.samples = counter("samples_total", "Samples in them")
        self.predictions = counter("predictions_total", "Predictions committed", ("label",))
        self.rejected = counter("packets_rejected_total", "Packets set aside as dead letters", ("reason",))
        self.late = counter("late_samples_total", "Samples dropped, older than the lateness allows")
        self.duplicates = counter("duplicate_samples_total", "Samples dropped, their packet had come already")
        self.backwards = counter("backwards_samples_total", "Samples dropped, their clock ran backwards")
        self.missing = counter("missing_packets_total", "Packets given up waiting for")
        self.gaps = counter("gaps_total", "Gaps of more than 0.2 s, each of which restarted a window")
        self.latency = Histogram(
            "repstream_prediction_latency_seconds",
            "From the event time of the newest sample in hand to the committed prediction",
            registry=registry,
            buckets=_LATENCY_BUCKETS_S,
        )
        self.batch = Histogram(
            "repstream_batch_seconds",
            "From packets in hand to their predictions committed",
            registry=registry,
            buckets=_LATENCY_BUCKETS_S,
        )
        self.active_devices = gauge("active_devices", "Devices whose samples are buffered or awaited")
        self.lag = gauge("consumer_lag", "Packets in the log that are not processed yet", ("partition",))
        self.restarts = counter("session_restarts_total", "Times that work was begun anew after a failure of Kafka")
        gauge("model_info", "The model in use (always 1)", ("name", "version")).labels(name, version).set(1)
        # Named before the first event, so that a rate over them starts from 0 and not from nothing.
        self.predicted = {label: self.predictions.labels(label) for label in labels}
        for reason in REJECT_REASONS:
            self.rejected.labels(reason)
        self._seen = Counts()

    def add(self, counts: Counts) -> None:
        """Add what `counts` has grown by since the last call."""
        for metric, name in (
            (self.packets, "packets"),
            (self.samples, "samples"),
            (self.late, "late_samples"),
            (self.duplicates, "duplicate_samples"),
            (self.backwards, "backwards_samples"),
            (self.missing, "missing_packets"),
            (self.gaps, "gaps"),
        ):
            now = getattr(counts, name)
            metric.inc(now - getattr(self._seen, name))
            setattr(self._seen, name, now)

    def restart_counts(self) -> None:
        """Expect counts that begin at zero again."""
        self._seen = Counts()
