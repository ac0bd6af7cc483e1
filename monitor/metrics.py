"""The monitor's metrics, on a registry that the caller gives; names as in docs/reference/metrics.md."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from monitor.alarms.book import AlarmBook
from monitor.alarms.devices import SIGNS
from monitor.drift.passes import PassResult
from monitor.drift.state import ODD, MonitorState
from monitor.ledger_sums import LedgerSums
from repstream.messages.messages import ALARM_CAUSES, ALARM_SCOPES, LEDGER_FATES


class MonitorMetrics:
    """All that a monitor exposes; labels are features, exercises and fixed words, never devices."""

    def __init__(self, registry: CollectorRegistry, features: tuple[str, ...], labels: tuple[str, ...]) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"repstream_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"repstream_{name}", text, labels, registry=registry)

        self.drift_score = gauge("feature_drift_score", "Evidently's score of a feature's drift", ("feature",))
        self.drifted = gauge("feature_drifted", "1 where a feature has drifted", ("feature",))
        self.drifted_ratio = gauge("drifted_features_ratio", "Share of features that have drifted")
        self.target_score = gauge("target_drift_score", "Evidently's score of the predicted exercises' drift")
        self.target_drifted = gauge("target_drifted", "1 where the predicted exercises have drifted")
        self.confidence_score = gauge("confidence_drift_score", "Evidently's score of the confidences' drift")
        self.confidence_drifted = gauge("confidence_drifted", "1 where the confidences have drifted")
        self.accuracy = gauge("accuracy", "Share of labelled predictions that are right, over the current windows")
        self.accuracy_estimate = gauge(
            "accuracy_estimate", "Estimate of accuracy from the confidences of the current windows, without labels"
        )
        self.f1 = gauge("f1", "F1 of each exercise over the current windows' labelled predictions", ("label",))
        self.precision = gauge("precision", "Precision of each exercise, of the same predictions", ("label",))
        self.recall = gauge("recall", "Recall of each exercise, of the same predictions", ("label",))
        self.confusion = gauge(
            "confusion", "How many of them are of an exercise and were predicted as another", ("label", "predicted")
        )
        self.alarms = gauge("drift_alarms_open", "Alarms that are on", ("cause", "scope"))
        self.alarms_total = counter("drift_alarms_total", "Alarms that have begun", ("cause", "scope"))
        self.watched = gauge("watched_devices", "Devices that are watched for a change")
        self.suspects = gauge("suspect_devices", "Devices whose signal now cannot be right", ("sign",))
        self.waiting = gauge("labels_waiting", "Predictions remembered whose label has not come")
        self.reference_rows = gauge("reference_rows", "Rows of the model's reference")
        self.current_rows = gauge("current_rows", "Predictions that the last pass compared with the reference")
        self.run_seconds = gauge("monitor_run_seconds", "How long the last pass took")
        self.passes = counter("monitor_passes_total", "Passes over the current windows")
        self.predictions = counter("monitor_predictions_total", "Predictions taken in")
        self.labels_in = counter("monitor_labels_total", "Labels taken in")
        self.odd = counter("monitor_odd_messages_total", "Messages set aside", ("reason",))
        self.lag = gauge("monitor_lag", "Messages in the log that the monitor has not read yet", ("topic",))
        self.ledger = gauge("ledger_samples", "Samples that the predictors took in, and what became of them", ("fate",))
        self.ledger_difference = gauge("ledger_difference", "Samples sent minus all whose fate is known; 0 adds up")
        for fate in ("sent", *LEDGER_FATES):
            self.ledger.labels(fate)
        for reason in ODD:
            self.odd.labels(reason)
        for cause in ALARM_CAUSES:
            for scope in ALARM_SCOPES:
                self.alarms.labels(cause, scope)
                self.alarms_total.labels(cause, scope)
        for sign in SIGNS:
            self.suspects.labels(sign)
        self._features = features
        self._labels = labels
        self._seen: Tally[str] = Tally()

    def count(self, state: MonitorState) -> None:
        """Take over what `state` has counted since the last call."""
        now = Tally({"predictions": state.predictions, "labels": state.labels, **state.odd})
        for name, total in now.items():
            grown = total - self._seen[name]
            if name == "predictions":
                self.predictions.inc(grown)
            elif name == "labels":
                self.labels_in.inc(grown)
            else:
                self.odd.labels(name).inc(grown)
        self._seen = now
        self.waiting.set(state.waiting())

    def forget_counts(self, state: MonitorState) -> None:
        """Expect `state`'s counts to go on from where they stand: what was read again is not new."""
        self._seen = Tally({"predictions": state.predictions, "labels": state.labels, **state.odd})

    def show_ledger(self, sums: LedgerSums) -> None:
        """Show what became of all samples."""
        for fate in ("sent", *LEDGER_FATES):
            self.ledger.labels(fate).set(sums.samples[fate])
        self.ledger_difference.set(sums.difference)

    def show_alarms(self, book: AlarmBook) -> None:
        """Show how many alarms are on."""
        counts = book.counts()
        for cause in ALARM_CAUSES:
            for scope in ALARM_SCOPES:
                self.alarms.labels(cause, scope).set(counts[cause, scope])

    def show_devices(self, watched: int, suspects: Sequence[Mapping[str, int]]) -> None:
        """Show how many devices are watched, and how many look wrong."""
        self.watched.set(watched)
        for sign in SIGNS:
            self.suspects.labels(sign).set(sum(s[sign] for s in suspects))

    def show(self, result: PassResult) -> None:
        """Show what a pass found; what it could not tell is not a number."""
        nan = float("nan")
        self.passes.inc()
        self.run_seconds.set(result.seconds)
        self.current_rows.set(result.rows)
        for name in self._features:
            found = result.data.features.get(name)
            self.drift_score.labels(name).set(found.score if found else nan)
            self.drifted.labels(name).set(found.drifted if found else nan)
        self.drifted_ratio.set(result.data.drifted_share if result.data.enough else nan)
        for drift, score, drifted in (
            (result.target.labels, self.target_score, self.target_drifted),
            (result.target.confidence, self.confidence_score, self.confidence_drifted),
        ):
            score.set(drift.score if drift else nan)
            drifted.set(drift.drifted if drift else nan)
        self.accuracy.set(_number(result.classification.accuracy))
        self.accuracy_estimate.set(_number(result.estimate.accuracy))
        for label in self._labels:
            found_label = result.classification.by_label.get(label)
            self.f1.labels(label).set(_number(found_label.f1 if found_label else None))
            self.precision.labels(label).set(_number(found_label.precision if found_label else None))
            self.recall.labels(label).set(_number(found_label.recall if found_label else None))
        confusion = result.classification
        for truth, row in zip(confusion.labels, confusion.confusion, strict=True):
            for predicted, n in zip(confusion.labels, row, strict=True):
                # What else labels may hold is not the model's to choose: it must not add series without end.
                if truth in self._labels and predicted in self._labels:
                    self.confusion.labels(truth, predicted).set(n)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
