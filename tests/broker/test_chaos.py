"""Whatever is killed, frozen or cut off when: each window's prediction stands once, and it is score's.

What happens when is drawn from a seed, another one each time, which a failure prints; ``REPSTREAM_CHAOS_SEED=N``
repeats it. As processes take their own time, the same seed gives the same disturbances, not the same run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.messages.topics import DEAD_LETTER
from repstream.processes.ports import free_port
from repstream.recognition.model import load_model
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    healthy,
    predict_arguments,
    read_topic,
    start_service,
    wait_for_predictions,
    wait_until,
)
from tests.proxy import Network

NAMES = ["spar/s08-*", "spar/s09-*", "spar/s10-*"]

# Each kind and how long it lasts, s. Kafka takes a predictor for dead after 6 s, and so it does a transaction; a
# predictor takes Kafka for gone after 10.
KINDS: dict[str, tuple[float, float]] = {
    "kill the predictor": (0, 0),
    "kill the producer": (0, 0),
    "kill Kafka": (0, 0),
    "freeze the predictor briefly": (0.3, 4),
    "freeze the predictor for longer than its session": (7, 10),
    "have another predictor": (8, 20),
    "cut the network briefly": (0.3, 4),
    "cut the network for longer than a session": (7, 12),
    "lose what is on its way": (0.3, 9),
    "lose answers": (0.3, 7),
    "slow the network down": (2, 6),
    "reset connections": (0, 0),
}
FURTHER = 6  # beside one of each kind
DELAY_S = 0.2
# The way to Kafka, s: with it a predictor is in the midst of a transaction half of the time, and is so when it is hit.
NEAR_S = 0.01


class Disturbance(NamedTuple):
    """Something that happens: how long after the one before, what, and for how long, s."""

    after_s: float
    kind: str
    lasts_s: float


def drawn(seed: int) -> Iterator[Disturbance]:
    """Draw what happens from a seed: each kind at least once, in any order, some while others last."""
    chance = random.Random(seed)
    kinds = [*KINDS, *chance.choices(list(KINDS), k=FURTHER)]
    chance.shuffle(kinds)
    for kind in kinds:
        yield Disturbance(chance.uniform(0.5, 4.0), kind, chance.uniform(*KINDS[kind]))


class Stage:
    """Kafka, a producer and a predictor that reach it over a network, and at times further predictors beside it."""

    def __init__(self, broker: EmbeddedBroker, network: Network, log: Path) -> None:
        self._broker = broker
        self._network = network
        self._log = log
        self._produce = ["produce", *NAMES, "--bootstrap-servers", network.address, "--speed", "4", "--quiet"]
        self._predict = predict_arguments(network.address, "chaos", "--checkpoint-every", "1")
        self.producer = self._start(self._produce)
        self.predictor = self._start(self._predict)
        self._further: list[subprocess.Popen[bytes]] = []

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        return start_service(*arguments, log=self._log)

    def begin(self, kind: str) -> AbstractContextManager[None]:
        """Let something happen, which the exit of what is returned ends."""
        assert self.predictor.poll() is None, f"the predictor has ended by itself, with {self.predictor.returncode}"
        happening: AbstractContextManager[None] = nullcontext()
        if kind == "kill the predictor":
            end(self.predictor, signal.SIGKILL)
            self.predictor = self._start(self._predict)
        elif kind == "kill the producer":
            end(self.producer, signal.SIGKILL)
            self.producer = self._start(self._produce)
        elif kind == "kill Kafka":
            self._broker.kill()
            self._broker.restart()
        elif kind == "reset connections":
            self._network.reset()
        elif kind.startswith("freeze the predictor"):
            happening = frozen(self.predictor)
        elif kind == "have another predictor":
            happening = self._another_predictor()
        elif kind.startswith("cut the network"):
            happening = self._network.cut()
        elif kind == "lose what is on its way":
            happening = self._network.cut(loses=True)
        elif kind == "lose answers":
            happening = self._network.cut(answers_alone=True, loses=True)
        else:
            assert kind == "slow the network down"
            happening = self._network.slow(DELAY_S)
        happening.__enter__()
        return happening

    @contextmanager
    def _another_predictor(self) -> Iterator[None]:
        port = free_port()
        predict = predict_arguments(self._broker.bootstrap_servers, "chaos", "--checkpoint-every", "1")
        process = self._start([*predict, "--metrics-port", str(port)])
        self._further.append(process)
        yield
        wait_until(lambda: healthy(port), "a further predictor is well", 120)
        assert end(process) == 0, "a predictor that is told to stop exits 0"

    def clear(self) -> None:
        """End all processes that are left."""
        for process in (self.producer, self.predictor, *self._further):
            end(process, signal.SIGKILL)


@contextmanager
def frozen(process: subprocess.Popen[bytes]) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    yield
    if process.poll() is None:  # else it was killed meanwhile
        os.kill(process.pid, signal.SIGCONT)


def play(stage: Stage, disturbances: Iterator[Disturbance]) -> None:
    """Let things happen one after the other, and end each when its time is over."""
    began_s = time.monotonic()
    ends: list[tuple[float, str, AbstractContextManager[None]]] = []

    def say(what: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {what}", flush=True)

    def wait(until_s: float) -> None:
        """Wait, and end what is over by then."""
        ends.sort(key=itemgetter(0))
        while ends and ends[0][0] <= until_s:
            over_s, kind, happening = ends.pop(0)
            time.sleep(max(over_s - time.monotonic(), 0.0))
            say(f"over: {kind}")
            happening.__exit__(None, None, None)
        time.sleep(max(until_s - time.monotonic(), 0.0))

    for after_s, kind, lasts_s in disturbances:
        wait(time.monotonic() + after_s)
        say(f"{kind} for {lasts_s:.1f} s" if lasts_s else kind)
        happening = stage.begin(kind)
        if lasts_s:
            ends.append((time.monotonic() + lasts_s, kind, happening))
    wait(max((over_s for over_s, *_ in ends), default=0.0))


@pytest.mark.timeout(600)
def test_processes_are_killed_and_frozen_and_the_network_is_cut_and_no_prediction_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    """
    ::

        producer ───┐
        predictor ──┴─ network ── Kafka ── further predictors, at times
    """
    seed = int(os.environ.get("REPSTREAM_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"REPSTREAM_CHAOS_SEED={seed}")
    model = load_model(MODEL)
    expected = expected_predictions(NAMES, model)
    log = tmp_path / "services.log"
    with Network(NEAR_S) as network, EmbeddedBroker.start(tmp_path / "kafka", relay=network.address) as broker:
        network.lead_to(broker.relay_port)
        stage = Stage(broker, network, log)
        try:
            assert wait_for_predictions(broker.bootstrap_servers, 1), log.read_text()[-3000:]
            play(stage, drawn(seed))
            assert stage.producer.wait(180) == 0, log.read_text()[-3000:]
            predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
            assert end(stage.predictor) == 0, log.read_text()[-3000:]
        finally:
            stage.clear()
        assert_stream_equals_batch(predictions, expected, model)
        assert not read_topic(broker.bootstrap_servers, DEAD_LETTER)
