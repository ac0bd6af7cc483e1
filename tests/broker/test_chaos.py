"""Whatever is killed when: each window's prediction stands once, and it is score's."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from repstream.embedded import EmbeddedBroker
from repstream.embedded_process import free_port
from repstream.model import load_model
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    healthy,
    predict_arguments,
    read_predictions,
    start_service,
    wait_for_predictions,
    wait_until,
)

NAMES = ["spar/s08-*", "spar/s09-*", "spar/s10-*"]
KILLS = 10


def test_predictor_broker_and_producer_are_killed_and_no_prediction_is_lost_or_doubled(tmp_path: Path) -> None:
    """
    Timeline (seconds of wall time, roughly)::

        producer    |=== replay at 8x =====X  killed   |== the same command again ===============|
        predictor A |==X==X==X====X=====X==X====X=======X====X===X  (X: kill -9, started again) ===|
        predictor B         |=====T  joins, leaves     |=====T
        broker                                 X=(killed, started again)=
    """
    random_moments = random.Random(7)
    model = load_model(MODEL)
    expected = expected_predictions(NAMES, model)
    log = tmp_path / "services.log"
    with EmbeddedBroker.start(tmp_path / "kafka") as broker:
        produce = ["produce", *NAMES, "--bootstrap-servers", broker.bootstrap_servers, "--speed", "8", "--quiet"]
        predict = predict_arguments(broker.bootstrap_servers, "chaos", "--checkpoint-every", "1")
        port = free_port()
        running = {"producer": start_service(*produce, log=log), "a": start_service(*predict, log=log)}
        try:
            wait_until(lambda: bool(read_predictions(broker.bootstrap_servers)), "a first prediction")
            for kill in range(KILLS):
                time.sleep(random_moments.uniform(0.8, 3.5))
                if kill in (2, 6):
                    running["b"] = start_service(*predict, "--metrics-port", str(port), log=log)
                if kill in (4, 8):
                    wait_until(lambda: healthy(port), "the second predictor has joined")
                    assert end(running.pop("b")) == 0, "a predictor that is told to stop exits 0"
                if kill == 5:
                    broker.kill()
                    broker.restart()
                if kill == 3:
                    end(running["producer"], signal.SIGKILL)
                    running["producer"] = start_service(*produce, log=log)
                end(running["a"], signal.SIGKILL)
                running["a"] = start_service(*predict, log=log)
            assert running["producer"].wait(180) == 0, log.read_text()[-3000:]
            predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
        finally:
            for process in running.values():
                end(process, signal.SIGKILL)
    assert_stream_equals_batch(predictions, expected, model)
