"""What a monitor has taken in: predictions joined with labels, alarms, and what became of samples."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from monitor.alarms.book import AlarmBook
from monitor.alarms.others import OtherModels
from monitor.drift.state import MonitorState, Table
from monitor.ledger_sums import Ledgers, LedgerSums
from monitor.metrics import MonitorMetrics
from monitor.places import Place
from monitor.settings import MonitorSettings
from repstream.errors import MessageError
from repstream.kafka.records import decoded, reason_of
from repstream.messages import messages
from repstream.messages.messages import Alarm, LabelInterval, Prediction
from repstream.recognition.card import ModelCard

log = logging.getLogger(__name__)

_Message = TypeVar("_Message")


class Intake:
    """Takes in messages, in the monitor's loop; what it tells is for any thread.

    Parameters
    ----------
    model : ModelCard
    settings : MonitorSettings
    metrics : MonitorMetrics
        Shows what comes in.
    """

    def __init__(self, model: ModelCard, settings: MonitorSettings, metrics: MonitorMetrics) -> None:
        self._model = model
        self._settings = settings
        self._metrics = metrics
        self._lock = threading.Lock()
        self._forget(AlarmBook())

    def _forget(self, book: AlarmBook) -> None:
        model = self._model
        self._state = MonitorState(model.id, len(model.features.names), model.labels, self._settings.monitoring)
        self._ledgers = Ledgers(self._settings.predictor_group)
        self._others = OtherModels(model.id)
        self._book = book

    def begin(self, book: AlarmBook) -> None:
        """Forget all but the alarms that have been told so far: it is read from Kafka again."""
        with self._lock:
            self._forget(book)
        self._metrics.show_alarms(book)
        self._metrics.forget_counts(self._state)

    @property
    def predictions(self) -> int:
        """How many predictions were taken."""
        return self._state.predictions

    @property
    def newest_window(self) -> int | None:
        """Number of the newest monitoring window; None before the first prediction."""
        return self._state.newest_window

    def other_models(self) -> list[str]:
        """Models whose predictions stand in the topic, too, and are set aside here."""
        with self._lock:
            return self._others.names()

    def other_models_ended(self) -> list[Alarm]:
        """End the alarms of models that have fallen silent."""
        with self._lock:
            return self._others.ended(self._book.open())

    def alarms(self) -> list[Alarm]:
        """Alarms that are on, then those that are over, each the newest first."""
        with self._lock:
            return self._book.all()

    def open_alarms(self) -> list[Alarm]:
        """Alarms that are on."""
        with self._lock:
            return self._book.open()

    def table(self, n: int) -> Table:
        """Rows of the newest `n` monitoring windows."""
        with self._lock:
            return self._state.table(n)

    def ledger(self) -> LedgerSums:
        """What became of all samples."""
        with self._lock:
            return self._ledgers.sums()

    def take_alarms(self, records: list[Any]) -> None:
        """Note alarms that were told, by this monitor or another."""
        with self._lock:
            for alarm in decoded(records, messages.decode_alarm):
                self._book.add(alarm)
        self._metrics.show_alarms(self._book)

    def take_ledgers(self, records: list[Any]) -> None:
        """Take what became of samples."""
        with self._lock:
            for _, ledger in self._counted(records, messages.decode_ledger):
                self._ledgers.add(ledger)
        self._metrics.count(self._state)
        self._metrics.show_ledger(self.ledger())

    def take_predictions(
        self, place: Place, records: list[Any], now_s: float
    ) -> tuple[list[Prediction], list[tuple[Prediction, float]]]:
        """Take one partition's predictions.

        Parameters
        ----------
        now_s : float
            The clock, epoch seconds.

        Returns
        -------
        list of Prediction
            Those that were taken.
        list of (Prediction, float)
            Those that say something of their device, with Kafka's timestamp (epoch seconds).
        """
        taken: list[Prediction] = []
        watched: list[tuple[Prediction, float]] = []
        with self._lock:
            for record, prediction in self._counted(records, messages.decode_prediction):
                stamped_s = record.timestamp / 1e3
                reason = self._state.add_prediction(prediction, now_s)
                if reason is None:
                    taken.append(prediction)
                    self._note_place(place, prediction.end, record.offset)
                if self._others.hear(prediction.model, stamped_s, record.partition):
                    log.warning(
                        "%s-%d offset %d: also found predictions of model %s; this monitor watches %s only",
                        *(record.topic, record.partition, record.offset, prediction.model, self._model.id),
                    )
                # Not what depends on the clock or on what came before: it must be the same when read again.
                if reason not in ("other-model", "features") and record.offset >= place.watched_from:
                    watched.append((prediction, stamped_s))
        place.forget_before(self._state.horizon_s, self._settings.monitoring.window_s)
        return taken, watched

    def take_labels(self, place: Place, records: list[Any], now_s: float) -> list[LabelInterval]:
        """Take one partition's labels; return those that are worth showing."""
        shown = []
        with self._lock:
            for record, label in self._counted(records, messages.decode_label):
                reason = self._state.add_label(label, now_s)
                if reason is None:
                    self._note_place(place, label.end, record.offset)
                if reason in (None, "unknown-label"):  # a page shows what the model cannot know, too
                    shown.append(label)
        place.forget_before(self._state.horizon_s, self._settings.monitoring.window_s)
        return shown

    def count(self, is_again: bool) -> None:
        """Show what has come in; what was counted in an earlier life is not counted again."""
        if is_again:
            self._metrics.forget_counts(self._state)
        else:
            self._metrics.count(self._state)

    def _note_place(self, place: Place, end_s: float, offset: int) -> None:
        place.firsts.setdefault(int(end_s // self._settings.monitoring.window_s), offset)

    def _counted(self, records: list[Any], decode: Callable[[bytes], _Message]) -> Iterator[tuple[Any, _Message]]:
        """Yield records with their messages; those that are not what their topic carries are counted and logged."""
        for record in records:
            try:
                yield record, decode(record.value or b"")
            except MessageError as error:
                self._state.odd["unreadable"] += 1
                place = f"{record.topic}-{record.partition} offset {record.offset}"
                log.warning("%s: %s", place, reason_of(record, error))
