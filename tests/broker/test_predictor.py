"""The predictor on a real Kafka: stream equals batch, bad input costs itself alone, work is shared."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repstream.broker.broker import EmbeddedBroker
from repstream.kafka.connection import KafkaConnection, OffsetAndMetadata, TopicPartition
from repstream.kafka.lives import unassigned_partitions
from repstream.kafka.state_topic import TOPIC_CONFIG, topic_of
from repstream.kafka.topics import ensure_topics
from repstream.messages.fields import encode
from repstream.messages.messages import decode_prediction, prediction_id
from repstream.messages.packet import Packet, packet_times_us
from repstream.messages.topics import DEAD_LETTER, PREDICTIONS, SAMPLES
from repstream.processes.ports import free_port
from repstream.recognition.model import Model, load_model
from repstream.recordings.catalogue import resolve
from repstream.recordings.recording import Recording
from repstream.recordings.tables import write_recording
from tests.broker.services import (
    MODEL,
    Topic,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    healthy,
    metrics,
    predict_arguments,
    read_predictions,
    read_topic,
    service,
    value_of,
    wait_for_predictions,
    wait_until,
)
from tests.support import success

NAMES = ["spar/s08-left-*"]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(MODEL)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A Kafka of the test's own: topics have fixed names."""
    with EmbeddedBroker.start(tmp_path / "kafka") as running:
        yield running


@pytest.fixture
def predicted(broker: EmbeddedBroker) -> Iterator[Topic]:
    """The predictions, for a test that looks again and again."""
    with contextlib.closing(Topic(broker.bootstrap_servers, PREDICTIONS)) as there:
        yield there


def produce(broker: EmbeddedBroker, *arguments: str) -> None:
    """Run the command in this process, which has imported what it needs."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        success("produce", *arguments, "--bootstrap-servers", broker.bootstrap_servers)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def packets_of(recording: Recording, n: int = 10, origin_s: float = 1_763_700_000.0) -> list[Packet]:
    """A recording as a foreign producer would cut it."""
    packets = []
    for seq, i in enumerate(range(0, recording.n_samples, n)):
        values = recording.values[i : i + n].tolist()
        packets.append(
            Packet(
                v=1,
                device=recording.device,
                session=recording.session,
                seq=seq,
                accel=[(r[0], r[1], r[2]) for r in values],
                gyro=[(r[3], r[4], r[5]) for r in values],
                t0=origin_s + float(recording.time_s[i]),
                rate_hz=recording.rate_hz,
                side=recording.side,
            )
        )
    return packets


def send(broker: EmbeddedBroker, messages: list[tuple[bytes | None, bytes]]) -> None:
    connection = KafkaConnection(broker.bootstrap_servers)
    ensure_topics(connection)
    producer = connection.producer()
    for key, value in messages:
        producer.send(SAMPLES, key=key, value=value)
    producer.flush()
    producer.close()


def with_suffix(expected: dict[str, np.ndarray], suffix: str) -> dict[str, np.ndarray]:
    """The same windows of sessions whose ids got a suffix."""
    renamed = {}
    for name, row in expected.items():
        device, session, index = name.split("/")
        renamed[f"{device}/{session}{suffix}/{index}"] = row
    return renamed


def test_predictions_are_those_of_score_however_packets_are_cut_shuffled_or_repeated(
    broker: EmbeddedBroker, model: Model
) -> None:
    once = expected_predictions(NAMES, model)
    expected: dict[str, np.ndarray] = {}
    for cut in (1, 7, 10, 50, 500):
        produce(broker, *NAMES, "--speed", "max", "--packet-samples", str(cut), "--session-suffix", f"-cut{cut}")
        expected |= with_suffix(once, f"-cut{cut}")
    produce(
        broker,
        *NAMES,
        "--speed",
        "max",
        "--session-suffix",
        "-mixed",
        "--inject",
        "shuffle:0.9@0",
        "--inject",
        "duplicate:0.3@0",
    )
    expected |= with_suffix(once, "-mixed")
    with service(*predict_arguments(broker.bootstrap_servers)):
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
    assert_stream_equals_batch(predictions, expected, model)


def test_predictions_carry_the_windows_event_times_and_features(broker: EmbeddedBroker, model: Model) -> None:
    recording = resolve(["spar/s08-left-ROW-1"])[0]
    origin = 1_763_700_000.0
    send(broker, [(p.device.encode(), encode(p)) for p in packets_of(recording, origin_s=origin)])
    with service(*predict_arguments(broker.bootstrap_servers, "test", "--hop", "50")):
        expected = expected_predictions(["spar/s08-left-ROW-1"], model, hop=50)
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
    assert_stream_equals_batch(predictions, expected, model)
    for prediction in predictions:
        start = origin + prediction.index * 50 / 50
        assert prediction.start == pytest.approx(start, abs=1e-6)
        assert prediction.end == pytest.approx(start + 3.0, abs=1e-6)
        assert prediction.end <= prediction.sampled_at <= prediction.end + 0.2
        assert prediction.model == model.id
        assert len(prediction.features) == len(model.features.names)
        assert prediction.confidence == max(prediction.probabilities.values())


def test_predictions_are_stamped_with_their_event_time_beside_a_replay_of_last_year(
    broker: EmbeddedBroker, model: Model
) -> None:
    recording = resolve(["spar/s08-left-ROW-1"])[0]
    now_s = time.time() - recording.duration_s
    devices = {"today": now_s, "last-year": now_s - 365 * 86_400}
    connection = KafkaConnection(broker.bootstrap_servers)
    ensure_topics(connection)
    producer = connection.producer()
    for packets in zip(
        *(packets_of(replace(recording, device=d), origin_s=o) for d, o in devices.items()), strict=True
    ):
        for packet in packets:  # in one partition, last year's always last
            stamp_ms = int(packet_times_us(packet)[-1] / 1e3)
            producer.send(SAMPLES, encode(packet), packet.device.encode(), partition=0, timestamp_ms=stamp_ms)
    producer.close()
    n = 2 * len(expected_predictions(["spar/s08-left-ROW-1"], model))
    with service(*predict_arguments(broker.bootstrap_servers)):
        wait_for_predictions(broker.bootstrap_servers, n)
    records = read_topic(broker.bootstrap_servers, PREDICTIONS)
    assert len(records) == n
    for record in records:
        assert record.timestamp == int(decode_prediction(record.value).end * 1e3)


def irregular(recording: Recording, kind: str) -> Recording:
    """Recordings as they come in life."""
    rng = np.random.default_rng(3)
    time_s, values, rate = recording.time_s, recording.values, recording.rate_hz
    if kind == "100hz":
        rate = 100.0
        time_s = np.arange(int(recording.duration_s * rate)) / rate
        values = np.stack([np.interp(time_s, recording.time_s, values[:, i]) for i in range(6)], axis=1)
    elif kind == "jittered":
        time_s = time_s + rng.uniform(-0.006, 0.006, len(time_s))
        time_s -= time_s[0]
    elif kind in ("gap-0.1s", "gap-2s"):
        length = 0.1 if kind == "gap-0.1s" else 2.0
        keep = (time_s < 10.0) | (time_s >= 10.0 + length)
        time_s, values = time_s[keep], values[keep]
    elif kind == "short":
        time_s, values = time_s[:150], values[:150]
    return replace(
        recording,
        name=kind,
        session=kind,
        device=f"watch-{kind}",
        time_s=time_s,
        values=values,
        rate_hz=rate,
        labels=None,
    )


def test_irregular_recordings_give_what_score_gives_and_broken_ones_are_refused_by_name(
    broker: EmbeddedBroker, model: Model, tmp_path: Path
) -> None:
    base = resolve(["spar/s09-right-PEN-1"])[0]
    kinds = ("100hz", "jittered", "gap-0.1s", "gap-2s", "short")
    files = []
    for kind in kinds:
        path = tmp_path / f"{kind}.csv"
        write_recording(irregular(base, kind), path)
        files.append(str(path))
    expected = expected_predictions(files, model)
    windows = {kind: sum(f"/{kind}/" in name for name in expected) for kind in kinds}
    assert windows["short"] == 0
    assert windows["gap-0.1s"] == windows["jittered"] > windows["gap-2s"] > 0
    produce(broker, *files, "--speed", "max")
    with service(*predict_arguments(broker.bootstrap_servers)):
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
    assert_stream_equals_batch(predictions, expected, model)
    # What no recording can be is refused before anything is sent.
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "nan.csv").write_text((tmp_path / "short.csv").read_text().replace("\n0.02,", "\n0.02,nan,", 1))
    (tmp_path / "picture.parquet").write_bytes(b"\x89PNG\r\n")
    for name in ("empty.csv", "nan.csv", "picture.parquet"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "repstream",
                "produce",
                str(tmp_path / name),
                "--bootstrap-servers",
                broker.bootstrap_servers,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert name in done.stderr
        assert done.stderr.count("\n") == 1


def test_each_malformed_packet_costs_itself_and_stands_in_the_dead_letter_topic_with_its_reason(
    broker: EmbeddedBroker, model: Model
) -> None:
    recording = resolve(["spar/s08-left-ROW-1"])[0]
    good = packets_of(recording)
    key = recording.device.encode()
    sound = json.loads(encode(good[0])) | {"session": "bad", "seq": 0}

    def bad(**changes: object) -> bytes:
        return json.dumps(sound | changes).encode()

    malformed: list[tuple[bytes | None, bytes, str]] = [
        (key, b"not JSON at all", "not-json"),
        (key, b"\xff\xfe\x00", "not-json"),
        (key, b"", "not-json"),
        (key, bad(v=2), "version"),
        (key, bad(accel=[[1, 2]] * 10), "shape"),
        (key, bad(gyro=[[1, 2, 3]] * 9), "shape"),
        (key, bad(accel=[], gyro=[]), "shape"),
        (key, bad().replace(b"[[", b"[[NaN, ", 1).replace(b", ", b",", 1), "nan"),
        (key, bad(accel=[[None, 0, 1]] * 10), "nan"),
        (key, bad(rate_hz=-50), "rate"),
        (key, bad(t0=None), "time"),
        (key, bad(t=[1_763_700_000.0] * 10), "time"),
        (b"somebody-else", bad(), "key"),
        (None, bad(), "key"),
        (key, b"x" * 10_000_000, "too-large"),
    ]
    messages: list[tuple[bytes | None, bytes]] = []
    for i, packet in enumerate(good):
        messages.append((key, encode(packet)))
        if i < len(malformed):
            messages.append(malformed[i][:2])
    send(broker, messages)
    expected = expected_predictions(["spar/s08-left-ROW-1"], model)
    with service(*predict_arguments(broker.bootstrap_servers)):
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
    assert_stream_equals_batch(predictions, expected, model)
    letters = read_topic(broker.bootstrap_servers, DEAD_LETTER)
    found = sorted((dict(r.headers)["reason"].decode(), r.key or b"", r.value) for r in letters)
    assert found == sorted((reason, k or b"", value[: 10**6 - len(k or b"")]) for k, value, reason in malformed)
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers}
        assert headers["topic"] == SAMPLES
        assert int(headers["partition"]) >= 0
        assert int(headers["offset"]) >= 0


def test_late_packets_are_dropped_and_counted_and_a_lost_one_is_waited_for_no_longer_than_the_lateness(
    broker: EmbeddedBroker, model: Model
) -> None:
    """
    Packets of 0.2 s; number 40 comes 3 s late, number 60 never::

        … 38 39 41 42 43 44 45 46 … 54 40 55 … 59 61 62 63 64 65 66 …
                             ^ given up: 46 is 1 s newer than what 40 can hold
                                     ^ late, dropped
    """
    recording = resolve(["spar/s08-left-ROW-1"])[0]
    packets = packets_of(recording)
    late = packets.pop(40)
    packets.insert(54, late)
    packets = [p for p in packets if p.seq != 60]
    send(broker, [(p.device.encode(), encode(p)) for p in packets])
    port = free_port()
    with service(*predict_arguments(broker.bootstrap_servers, "test", "--metrics-port", str(port))):
        # One lost packet is 0.2 s: interpolated, so that every window is there.
        expected = expected_predictions(["spar/s08-left-ROW-1"], model)
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
        assert sorted(p.id for p in predictions) == sorted(expected)
        text = metrics(port)
    assert value_of(text, "repstream_late_samples_total") == 10
    assert value_of(text, "repstream_missing_packets_total") == 2
    assert value_of(text, "repstream_packets_consumed_total") == len(packets)


def test_a_second_predictor_shares_the_work_and_takes_over_when_the_first_is_killed(
    broker: EmbeddedBroker, model: Model, tmp_path: Path
) -> None:
    names = ["spar/s08-*", "spar/s09-*", "spar/s10-*"]
    expected = expected_predictions(names, model)
    ports = free_port(), free_port()
    log = tmp_path / "predictors.log"
    with (
        service(*predict_arguments(broker.bootstrap_servers, "g", "--metrics-port", str(ports[0])), log=log) as first,
        service(*predict_arguments(broker.bootstrap_servers, "g", "--metrics-port", str(ports[1])), log=log),
        service("produce", *names, "--speed", "10", "--bootstrap-servers", broker.bootstrap_servers) as producer,
    ):
        wait_until(lambda: healthy(ports[0]) and healthy(ports[1]), "both predictors healthy")
        wait_until(
            lambda: all(value_of(metrics(p), "repstream_packets_consumed_total") > 100 for p in ports),
            "both predictors have packets",
        )
        end(first, signal.SIGKILL)
        killed = time.monotonic()
        devices = {p.device for p in read_predictions(broker.bootstrap_servers)}
        assert devices, "predictions before the kill"
        assert producer.wait(120) == 0
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected), timeout_s=60)
        assert time.monotonic() - killed < 100
    assert_stream_equals_batch(predictions, expected, model)


def test_a_predictor_that_is_started_before_kafka_says_so_waits_and_works(tmp_path: Path, model: Model) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    log = tmp_path / "predictor.log"
    with service(*predict_arguments(address), log=log):
        wait_until(lambda: b"no Kafka at" in log.read_bytes(), "the predictor says that Kafka is missing")
        with EmbeddedBroker.start(tmp_path / "kafka", port) as broker:
            produce(broker, "spar/s08-left-ROW-1", "--speed", "max")
            expected = expected_predictions(["spar/s08-left-ROW-1"], model)
            predictions = wait_for_predictions(address, len(expected))
    assert_stream_equals_batch(predictions, expected, model)


def test_kafka_gone_for_30_s_in_mid_stream_loses_nothing(broker: EmbeddedBroker, model: Model, tmp_path: Path) -> None:
    expected = expected_predictions(NAMES, model)
    log = tmp_path / "services.log"
    with (
        service(*predict_arguments(broker.bootstrap_servers), log=log),
        service(
            "produce", *NAMES, "--speed", "10", "--bootstrap-servers", broker.bootstrap_servers, log=log
        ) as producer,
    ):
        assert len(wait_for_predictions(broker.bootstrap_servers, 21)) > 20, "predictions flow"
        broker.kill()
        time.sleep(30)  # the outage itself, not a wait for something
        broker.restart()
        assert producer.wait(120) == 0, log.read_text()[-3000:]
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
    assert_stream_equals_batch(predictions, expected, model)


def test_sigterm_finishes_the_batch_leaves_the_group_and_exits_0(broker: EmbeddedBroker, model: Model) -> None:
    names = ["spar/s10-left-*"]
    expected = expected_predictions(names, model)
    produce(broker, *names, "--speed", "max")
    port = free_port()
    predict = predict_arguments(broker.bootstrap_servers, "g", "--batch-packets", "100", "--metrics-port", str(port))
    for _ in range(3):  # each goes on where the one before stopped, without waiting for a session to expire
        began = time.monotonic()
        with service(*predict) as predictor:
            wait_until(lambda: healthy(port), "the predictor has its partitions")
            assert end(predictor) == 0
        assert time.monotonic() - began < 20
    with service(*predict_arguments(broker.bootstrap_servers, "g")):
        predictions = wait_for_predictions(broker.bootstrap_servers, len(expected))
    assert_stream_equals_batch(predictions, expected, model)


def test_what_a_silent_device_held_back_comes_out_once_and_its_session_goes_on_under_the_right_numbers(
    broker: EmbeddedBroker, model: Model, predicted: Topic
) -> None:
    """
    Packets of 10 samples; number 38 is lost, and the device falls silent after 40::

        packets  0 … 37 39 40 | silent for --idle-after | 41 …
        windows  0 … 8        | 9, 10 (38 is bridged)   | from sample 425 on: 17 …
    """
    recording = resolve(["spar/s08-left-ROW-1"])[0]
    packets = packets_of(recording)
    key = recording.device.encode()
    send(broker, [(key, encode(p)) for p in packets[:41] if p.seq != 38])
    predict = predict_arguments(broker.bootstrap_servers, "g", "--idle-after", "1")

    def numbers() -> list[int]:
        return sorted(p.index for p in predicted.predictions())

    with service(*predict) as predictor:
        wait_until(lambda: numbers() == list(range(11)), "what was held back comes out")
        end(predictor, signal.SIGKILL)
    with service(*predict):
        send(broker, [(key, encode(p)) for p in packets[41:]])
        expected = expected_predictions(["spar/s08-left-ROW-1"], model)
        rest = [k for k in range(len(expected)) if k * 25 >= 410]
        wait_until(lambda: numbers() == [*range(11), *rest], f"the rest, once each; found {numbers()}")


def test_partitions_of_a_group_that_all_have_left_count_as_nobodys(broker: EmbeddedBroker) -> None:
    """A member whose client has stopped beating unknowingly sees by this that it must join again."""
    connection = KafkaConnection(broker.bootstrap_servers)
    ensure_topics(connection)
    consumer = connection.consumer(group_id="left")
    consumer.subscribe([SAMPLES])
    wait_until(lambda: consumer.poll(timeout_ms=200) is not None and len(consumer.assignment()) == 4, "it has all four")
    assert unassigned_partitions(connection, "left", [SAMPLES]) == set()
    consumer.close()
    all_four = {TopicPartition(SAMPLES, number) for number in range(4)}
    wait_until(lambda: unassigned_partitions(connection, "left", [SAMPLES]) == all_four, "nobody has them")
    assert unassigned_partitions(connection, "never-there", [SAMPLES]) == set()


def administer(broker: EmbeddedBroker, call: str, *arguments: object) -> None:
    admin = KafkaConnection(broker.bootstrap_servers).admin()
    try:
        getattr(admin, call)(*arguments)
    finally:
        admin.close()


def add_partitions(broker: EmbeddedBroker, topic: str, n: int) -> None:
    administer(broker, "create_partitions", {topic: n})
    wait_until(lambda: partitions_of(broker, topic) == n, f"{n} partitions of {topic}")


def partitions_of(broker: EmbeddedBroker, topic: str) -> int:
    consumer = KafkaConnection(broker.bootstrap_servers).consumer()
    try:
        return len(consumer.partitions_of(topic))
    finally:
        consumer.close()


def assert_each_window_once_and_right(
    broker: EmbeddedBroker, expected: dict[str, np.ndarray], origin_s: float = 1_763_700_000.0, hop_s: float = 0.5
) -> dict[str, list[int]]:
    """No id twice and, whatever it is, the probabilities of that window; return the windows of each session."""
    predictions = read_predictions(broker.bootstrap_servers)
    assert len({p.id for p in predictions}) == len(predictions)
    found: dict[str, list[int]] = {}
    for p in predictions:
        k = round((p.start - origin_s) / hop_s)
        row = expected[prediction_id(p.device, p.session, k)]
        assert np.abs(np.array(list(p.probabilities.values())) - row).max() <= 1e-9, p.id
        assert p.index == k or p.index == int(origin_s / hop_s) + k or p.index > 3_000_000_000, p.id
        found.setdefault(p.session, []).append(k)
    assert all(len(set(ks)) == len(ks) for ks in found.values()), "a window stands under two ids"
    return {session: sorted(ks) for session, ks in found.items()}


def test_partitions_may_be_added_under_a_running_predictor_and_no_id_stands_twice(
    broker: EmbeddedBroker, model: Model, tmp_path: Path, predicted: Topic
) -> None:
    """
    Sessions of 12 devices; those whose key moves count from the epoch from sample 500 on::

        packets  0 … 49 | partitions 4 → 6 | 50 … 69 | predictor killed | 70 …
    """
    names = ["spar/s0[89]-*-ROW-1", "spar/s10-*-ROW-1", "spar/s0[1-3]-*-ROW-1"]
    recordings = resolve(names)
    expected = expected_predictions(names, model)
    packets = {r.session: packets_of(r) for r in recordings}
    log = tmp_path / "predictor.log"

    def send_part(part: slice) -> None:
        send(broker, [(p.device.encode(), encode(p)) for own in packets.values() for p in own[part]])

    def wait_for_windows(n_samples: int) -> None:
        """Until each session has its last window that ends within this many samples."""

        def newest() -> dict[str, float]:
            ends: dict[str, float] = {}
            for p in predicted.predictions():
                ends[p.session] = max(ends.get(p.session, 0.0), p.end)
            return ends

        wanted = 1_763_700_000.0 + (n_samples - 151) // 25 * 0.5 + 2.9
        wait_until(
            lambda: len(newest()) == len(recordings) and min(newest().values()) > wanted,
            f"windows up to sample {n_samples}: {log.read_text()[-3000:]}",
            timeout_s=150,
        )

    predict = predict_arguments(broker.bootstrap_servers, "g")
    send_part(slice(50))
    with service(*predict, log=log) as predictor:
        wait_for_windows(500)
        add_partitions(broker, SAMPLES, 6)
        send_part(slice(50, 70))
        wait_for_windows(700)
        assert partitions_of(broker, topic_of("g")) == 6
        end(predictor, signal.SIGKILL)
    with service(*predict, log=log):
        send_part(slice(70, 90))
        wait_for_windows(900)
    assert "Traceback" not in log.read_text()
    homes: dict[str, set[int]] = {}
    for record in read_topic(broker.bootstrap_servers, SAMPLES):
        homes.setdefault(record.key.decode(), set()).add(record.partition)
    moved = {r.session for r in recordings if len(homes[r.device]) == 2}
    assert 0 < len(moved) < len(recordings)
    found = assert_each_window_once_and_right(broker, expected)
    whole = list(range((900 - 151) // 25 + 1))
    for session, windows in found.items():
        # Only those that reach over the move are not there.
        lost = {k for k in whole if k * 25 < 500 < k * 25 + 151} if session in moved else set()
        assert windows == [k for k in whole if k not in lost], session


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--lateness", "1"], ["--lateness", "3"]),
        (["--lateness", "3"], ["--lateness", "1"]),
        (["--hop", "25"], ["--hop", "50"]),
    ],
)
def test_a_changed_setting_repeats_and_loses_no_window(
    broker: EmbeddedBroker, model: Model, tmp_path: Path, predicted: Topic, before: list[str], after: list[str]
) -> None:
    """
    Packet 20 comes 2.6 s late; what stands after the only checkpoint, at packet 10, is read again::

        packets  0 … 9 | 10 … 19 21 … 33 20 34 … 59 | predictor killed, started with the other setting | 60 …
    """
    recording = resolve(["spar/s08-left-ROW-1"])[0]
    packets = packets_of(recording)
    packets.insert(33, packets.pop(20))
    key = recording.device.encode()
    log = tmp_path / "predictor.log"
    predict = predict_arguments(broker.bootstrap_servers, "g", "--batch-packets", "10", "--checkpoint-every", "600")

    def starts() -> list[float]:
        return sorted(p.start - 1_763_700_000.0 for p in predicted.predictions())

    send(broker, [(key, encode(p)) for p in packets[:60]])
    first = [k * 0.5 for k in range((600 - 151) // 25 + 1)]
    with service(*predict, *before, log=log) as predictor:
        wait_until(
            lambda: len(starts()) >= len(first),
            f"the first windows {starts()} {log.read_text()[-2000:]}",
            timeout_s=150,
        )
        end(predictor, signal.SIGKILL)
    send(broker, [(key, encode(p)) for p in packets[60:90]])
    hop_s = 1.0 if "--hop" in after else 0.5
    rest = [k * hop_s for k in range(100) if k * hop_s >= len(first) * 0.5 and k * hop_s * 50 + 151 <= 900]
    with service(*predict, *after, log=log):
        wait_until(
            lambda: len(starts()) >= len(first + rest), f"the rest {starts()} {log.read_text()[-2000:]}", timeout_s=150
        )
    assert starts() == pytest.approx(first + rest, abs=1e-6)
    ids = [p.id for p in read_predictions(broker.bootstrap_servers)]
    assert len(set(ids)) == len(ids)
    if "--hop" not in after:
        assert set(ids) <= expected_predictions(["spar/s08-left-ROW-1"], model).keys()


def delete_state(broker: EmbeddedBroker) -> None:
    administer(broker, "delete_topics", [topic_of("g")])
    wait_until(lambda: partitions_of(broker, topic_of("g")) == 0, "the topic is gone")


def move_offsets_by_hand(broker: EmbeddedBroker) -> None:
    """To where they are, but without the text that goes with them."""
    consumer = KafkaConnection(broker.bootstrap_servers).consumer(group_id="g")
    try:
        places = {tp: consumer.committed(tp) for tp in consumer.partitions_of(SAMPLES)}
        consumer.commit({tp: OffsetAndMetadata(offset, "", -1) for tp, offset in places.items() if offset})
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("lose_state", "said"),
    [
        (delete_state, b"its state is gone from repstream-state.g"),
        (move_offsets_by_hand, b"offset 50 was committed without our state"),
    ],
)
def test_where_a_state_is_gone_work_goes_on_at_the_committed_offset_and_no_id_stands_twice(
    broker: EmbeddedBroker, model: Model, tmp_path: Path, lose_state: Callable[[EmbeddedBroker], None], said: bytes
) -> None:
    names = ["spar/s08-left-ROW-1"]
    packets = packets_of(resolve(names)[0])
    key = packets[0].device.encode()
    log = tmp_path / "predictor.log"
    predict = predict_arguments(broker.bootstrap_servers, "g")
    send(broker, [(key, encode(p)) for p in packets[:50]])
    with service(*predict, log=log) as predictor:
        wait_for_predictions(broker.bootstrap_servers, 14)
        assert end(predictor) == 0
    lose_state(broker)
    send(broker, [(key, encode(p)) for p in packets[50:90]])
    whole = [k for k in range((900 - 151) // 25 + 1) if not k * 25 < 500 < k * 25 + 151]
    with service(*predict, log=log):
        predictions = wait_for_predictions(broker.bootstrap_servers, len(whole))
    assert len(predictions) == len(whole), log.read_text()[-3000:]
    assert said in log.read_bytes()
    found = assert_each_window_once_and_right(broker, expected_predictions(names, model))
    assert list(found.values()) == [whole]


def test_a_state_topic_that_is_not_compacted_is_refused_with_the_cure(broker: EmbeddedBroker) -> None:
    administer(broker, "create_topics", {topic_of("g"): {"num_partitions": 4, "configs": {"cleanup.policy": "delete"}}})
    done = subprocess.run(
        [sys.executable, "-m", "repstream", *predict_arguments(broker.bootstrap_servers, "g")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "repstream-state.g has cleanup.policy=delete" in line
    assert "--add-config cleanup.policy=[compact]" in line
    assert "Traceback" not in done.stderr


def test_state_topics_get_as_many_partitions_as_what_they_hold_the_state_of(broker: EmbeddedBroker) -> None:
    connection = KafkaConnection(broker.bootstrap_servers)
    ensure_topics(connection, extra={topic_of("monitor"): TOPIC_CONFIG, "other": {"retention.ms": "1000000"}})
    add_partitions(broker, PREDICTIONS, 7)
    ensure_topics(connection, extra={topic_of("monitor"): TOPIC_CONFIG, "other": {"retention.ms": "1000000"}})
    assert partitions_of(broker, topic_of("monitor")) == 7
    assert partitions_of(broker, "other") == 4
