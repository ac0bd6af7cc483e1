"""Alarms on a real Kafka: what a monitor tells is not changed by killing it, nor by what does not belong there."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.kafka.connection import KafkaConnection
from repstream.kafka.topics import ensure_topics
from repstream.messages.fields import encode
from repstream.messages.messages import Alarm, LabelInterval, Prediction, decode_alarm
from repstream.messages.topics import ALARMS, LABELS, PREDICTIONS
from repstream.processes.ports import free_port
from repstream.recognition.model import load_model
from repstream.recognition.scoring import score
from repstream.recordings.catalogue import resolve
from tests.broker.services import (
    MODEL,
    Topic,
    end,
    predict_arguments,
    service,
    value_of,
    wait_until,
)
from tests.broker.test_monitor import fetch
from tests.drifting import sent_for
from tests.support import spar_recordings

pytestmark = pytest.mark.broker

NAMES = ["spar/s08-left-*", "spar/s08-right-*", "spar/s10-left-*"]
TURNED = "spar-s08-left"
# A monitor that is told to stop finishes its pass, whose process takes seconds to start.
_PATIENCE_S = 90.0
GARBAGE = (b"", b"no JSON", b"[]", b'{"v": 99}', b"\xff\xfe")


def told(alarms: Topic) -> list[tuple[tuple[int, int], Alarm]]:
    """All alarms that can be read, with their place in the log."""
    return [((r.partition, r.offset), decode_alarm(r.value)) for r in alarms.records() if r.value not in GARBAGE]


def of_devices(alarms: list[Alarm]) -> list[Alarm]:
    return sorted((a for a in alarms if a.scope == "device"), key=lambda a: (a.id, a.ended is not None))


def send_what_does_not_belong_there(address: str) -> int:
    """Garbage on both topics, a prediction of an unknown model, a label before its predictions; how many are odd."""
    stranger = Prediction(
        v=1,
        id="ghost/s/0",
        device="ghost",
        session="s",
        index=0,
        start=time.time() - 3,
        end=time.time(),
        label="ABD",
        confidence=1.0,
        probabilities={"ABD": 1.0},
        features=[0.0],
        model="other/9",
        sampled_at=time.time(),
        predicted_at=time.time(),
        signal=[0.0] * 94,
    )
    early = LabelInterval("spar-s08-left", "not-begun", time.time(), time.time() + 5, "ABD")
    producer = KafkaConnection(address).producer()
    try:
        for junk in GARBAGE:
            producer.send(PREDICTIONS, key=b"junk", value=junk)
            producer.send(ALARMS, key=b"junk", value=junk)
        producer.send(PREDICTIONS, key=b"ghost", value=encode(stranger))
        producer.send(LABELS, key=early.device.encode(), value=encode(early))
        producer.flush()
    finally:
        producer.close()
    return len(GARBAGE) + 1


def monitoring(port: int) -> dict[str, Any]:
    status, text = fetch(port, "/monitoring")
    return json.loads(text) if status == 200 else {"predictions": 0, "alarms_to_tell": 1, "last_pass": None}


def by_cause(port: int, name: str) -> Counter[tuple[str, str]]:
    """A metric's values by (cause, scope), those that are not 0."""
    found: Counter[tuple[str, str]] = Counter()
    for line in fetch(port, "/metrics")[1].splitlines():
        if line.startswith(f"{name}{{"):
            labels = dict(part.split("=") for part in line[len(name) + 1 : line.index("}")].split(","))
            found[labels["cause"].strip('"'), labels["scope"].strip('"')] += int(float(line.split()[-1]))
    return +found


def test_alarms_of_a_monitor_killed_twice_are_those_of_one_never_killed(tmp_path: Path) -> None:
    """
    ::

        event time, s     0 ..... 40 ====== 100 ............ 260
        sensor                    turned
        monitor           |----- killed |--- killed |---------|    and afterwards, of another group:
                                                                |--|
    """
    model = load_model(MODEL)
    windows = sum(len(score(r, model).features) for r in resolve(NAMES))
    log = tmp_path / "services.log"
    with EmbeddedBroker.start(tmp_path / "kafka") as broker, closing(Topic(broker.bootstrap_servers, ALARMS)) as alarms:
        address = broker.bootstrap_servers
        port = free_port()
        watch = ["monitor", "--bootstrap-servers", address, "--port", str(port), "--every", "1"]
        watch += [
            "--predictor-group",
            "test",
            "--report-every",
            "0",
            "--no-alarm-reports",
            "--reports",
            str(tmp_path / "reports"),
        ]
        produce = ["produce", *NAMES, "--bootstrap-servers", address, "--speed", "10", "--quiet"]
        produce += ["--inject", f"rotate:90,z@40-100/{TURNED}"]

        def done(n: int) -> bool:
            said = monitoring(port)
            return bool(said["predictions"] >= n and not said["alarms_to_tell"])

        with (
            service(*predict_arguments(address), log=log),
            service(*watch, "--group", "killed", log=log) as monitor,
        ):
            wait_until(lambda: fetch(port, "/readyz")[0] == 200, "a monitor")
            odd = send_what_does_not_belong_there(address)
            with service(*produce, log=log) as producer:
                # It has written nothing down since its start: the next one reads all of this again.
                wait_until(lambda: bool(of_devices([a for _, a in told(alarms)])), "the alarm", _PATIENCE_S)
                end(monitor, signal.SIGKILL)
                with service(*watch, "--group", "killed", log=log) as again:
                    wait_until(lambda: done(windows // 2), "a half of all predictions")
                    end(again, signal.SIGKILL)
                send_what_does_not_belong_there(address)
                with service(*watch, "--group", "killed", log=log) as again:
                    wait_until(lambda: done(windows), f"all {windows} predictions", 120)
                    assert producer.wait(60) == 0
                    assert_shown_as_told(port, [a for _, a in told(alarms)])
                    assert value_of(fetch(port, "/metrics")[1], "repstream_ledger_difference") == 0
                    assert end(again, timeout_s=_PATIENCE_S) == 0
        first = told(alarms)
        places = {place for place, _ in first}
        with service(*watch, "--group", "calm", log=log) as monitor:
            wait_until(lambda: done(windows), "all predictions, by a monitor that nobody kills")
            wait_until(lambda: by_cause(port, "repstream_drift_alarms_total")["rotated", "device"] > 0, "its alarms")
            odd_ones = value_of(fetch(port, "/metrics")[1], "repstream_monitor_odd_messages_total")
            later = [a for place, a in told(alarms) if place not in places]
            begun = Counter((a.cause, a.scope) for a in later if a.ended is None)
            assert by_cause(port, "repstream_drift_alarms_total") == begun
            assert_shown_as_told(port, [a for _, a in told(alarms)])
            assert end(monitor, timeout_s=_PATIENCE_S) == 0
    assert odd_ones == 2 * odd
    killed, calm = of_devices([a for _, a in first]), of_devices(later)
    assert killed == calm
    assert [(a.device, a.cause, a.ended is not None) for a in killed] == [
        (TURNED, "rotated", False),
        (TURNED, "rotated", True),
    ]
    begins, ends = (Counter(a.id for _, a in first if (a.ended is not None) == over) for over in (False, True))
    assert set(begins.values()) <= {1}, begins
    assert set(ends.values()) <= {1}, ends
    assert ends.keys() <= begins.keys()


def assert_shown_as_told(port: int, alarms: list[Alarm]) -> None:
    """What the monitor shows is what stands in the topic."""
    over = {a.id for a in alarms if a.ended is not None}
    there = {a.id for a in alarms}
    shown = monitoring(port)["alarms"]
    assert {a["id"] for a in shown} == there
    assert {a["id"] for a in shown if a.get("ended") is not None} == over
    on = {a.id: (a.cause, a.scope) for a in alarms if a.id not in over}
    assert by_cause(port, "repstream_drift_alarms_open") == Counter(on.values())


def test_predictions_dated_2096_end_no_alarm_and_stop_no_monitor_and_alarms_of_an_unwatched_model_end(
    tmp_path: Path,
) -> None:
    """
    ::

        sensor-0 … 5   ~~~~~~~~~~====== stuck; 70 years on from the one named "future"
        calm-0 … 15    . . . . . . . . . . an hour and a half of predictions, by the model that is watched alone
        old/1          | alarm, and never a prediction
        live/1         | alarm . . . . . . and predictions all the time
    """
    now = time.time()
    stuck = [p for p in sent_for(spar_recordings("s08-left-*"), "stuck:gyro_y@60") if p.signal is not None]
    shift = now - 60.0 - stuck[-1].end
    devices = [*(f"sensor-{n}" for n in range(6)), "future"]
    sent = [
        at(p, device, p.end + shift + (70 * 365 * 86_400 if device == "future" else 0.0))
        for p in stuck
        for device in devices
    ]
    ticks = [
        msgspec.structs.replace(stuck[0], signal=None, features=[0.0] * len(stuck[0].features), model=model)
        for model in ("spar/1", "live/1")
    ]
    # Of so many that each partition has one: what was not read for an hour says nothing.
    calm = [at(tick, f"calm-{n}", now - 5_400 + i * 60.0) for i in range(90) for n in range(16) for tick in ticks]
    sent = calm + sent
    left = [alarm_of(model, now - 5_300) for model in ("old/1", "live/1")]
    log = tmp_path / "monitor.log"
    with EmbeddedBroker.start(tmp_path / "kafka") as broker, closing(Topic(broker.bootstrap_servers, ALARMS)) as alarms:
        address = broker.bootstrap_servers
        ensure_topics(KafkaConnection(address))
        producer = KafkaConnection(address).producer()
        for prediction in sent:
            stamp = min(prediction.end, now)
            value = encode(prediction)
            producer.send(PREDICTIONS, key=prediction.device.encode(), value=value, timestamp_ms=int(stamp * 1e3))
        for alarm in left:
            producer.send(ALARMS, key=alarm.id.encode(), value=encode(alarm))
        producer.flush()
        producer.close()
        port = free_port()
        watch = ["monitor", "--bootstrap-servers", address, "--port", str(port), "--every", "1"]
        watch += ["--report-every", "0", "--no-alarm-reports", "--reports", str(tmp_path / "reports")]
        with service(*watch, log=log) as monitor:

            def over() -> dict[str, str]:
                return {a.model: a.text for _, a in told(alarms) if a.ended is not None}

            wait_until(lambda: fetch(port, "/readyz")[0] == 200, "a monitor", _PATIENCE_S)
            # Looked for every 30 s, when what is silent is forgotten, too.
            wait_until(lambda: "old/1" in over(), "the alarm that nobody watches ends", _PATIENCE_S)
            assert over().keys() == {"old/1"}
            assert "no prediction of model old/1 has come for an hour" in over()["old/1"]

            def on() -> list[dict[str, Any]]:
                return [a for a in json.loads(fetch(port, "/monitoring")[1])["alarms"] if a["ended"] is None]

            # It shows what it has read back from the topic.
            wait_until(lambda: {a["model"] for a in on()} == {"spar/1", "live/1"}, "those of the others are still on")
            # All seven are stuck at once: a pass that saw it has an alarm of scope "all", too.
            of_sensors = {a["device"] for a in on() if (a["model"], a["scope"]) == ("spar/1", "device")}
            assert of_sensors == set(devices)
            assert json.loads(fetch(port, "/monitoring")[1])["other_models"] == ["live/1"]
            assert end(monitor, timeout_s=_PATIENCE_S) == 0
    assert "starting again" not in log.read_text()
    assert log.read_text().count("also found predictions of model live/1") == 1


def at(prediction: Prediction, device: str, end_s: float) -> Prediction:
    """The same window of another device, at another time."""
    start = end_s - (prediction.end - prediction.start)
    return msgspec.structs.replace(prediction, device=device, start=start, end=end_s)


def alarm_of(model: str, raised: float) -> Alarm:
    return Alarm(
        f"w/rotated/{model}", "device", "w", "rotated", [], "It is turned.", "look", raised, raised, 0.9, model
    )
