"""What the live page remembers of a running monitor, which tells it through `monitor.service.Observer`."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.drift.passes import PassResult
from monitor.live.drift import DriftHistory
from monitor.live.feed import Feed
from monitor.settings import MonitoringSettings
from repstream.messages.messages import LabelInterval, Prediction
from repstream.recognition.card import ModelCard


class LiveObserver:
    """The wearers' feed and the newest passes.

    Parameters
    ----------
    model : ModelCard
    settings : MonitoringSettings

    Attributes
    ----------
    feed : Feed
    drift : DriftHistory
    """

    def __init__(self, model: ModelCard, settings: MonitoringSettings) -> None:
        self.feed = Feed(model.labels, settings.label_share)
        self.drift = DriftHistory(model.features.names)

    def forget(self) -> None:
        """Forget what wearers do: it is read again. The passes stay."""
        self.feed.clear()

    def add(self, predictions: Sequence[Prediction], labels: Sequence[LabelInterval], now_s: float) -> None:
        """Take what the monitor took."""
        self.feed.add(predictions, labels, now_s)

    def add_pass(self, result: PassResult) -> None:
        """Take what a pass found."""
        self.drift.add(result)
