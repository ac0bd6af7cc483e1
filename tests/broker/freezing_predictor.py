"""A predictor that freezes itself once: after its first prediction, before the transaction that would commit it.

``python -m tests.broker.freezing_predictor BOOTSTRAP_SERVERS MODEL``
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from prometheus_client import CollectorRegistry

from predictor.service import Predictor
from predictor.settings import PredictorSettings
from repstream.kafka.connection import KafkaConnection
from repstream.recognition.model import load_model

# Two heartbeats: by then its client knows that it has lost its place, which is what made it dangerous.
_LEARNS_OF_ITS_LOSS_S = 2.0


class FreezingPredictor(Predictor):
    """Stops once with predictions in hand."""

    _has_frozen = False

    def _predict(self, finished: Any) -> Any:
        predictions = super()._predict(finished)
        if predictions and not self._has_frozen:
            self._has_frozen = True
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(_LEARNS_OF_ITS_LOSS_S)
        return predictions


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    FreezingPredictor(
        load_model(sys.argv[2]),
        KafkaConnection(sys.argv[1]),
        PredictorSettings(group="test"),
        CollectorRegistry(),
        stopping.is_set,
    ).run()
