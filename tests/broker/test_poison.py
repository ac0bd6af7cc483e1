"""One bad message costs one message, whatever it is; and a predictor that was frozen writes nothing twice."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kafka.record.default_records as kafka_batches
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.engine import Engine
from predictor.engine.ledger import refused_packet
from predictor.engine.partition import Partition
from repstream.broker.broker import EmbeddedBroker
from repstream.kafka.connection import KafkaConnection
from repstream.kafka.topics import ensure_topics
from repstream.messages import messages
from repstream.messages.fields import encode
from repstream.messages.packet import MAX_ACCEL_G, MAX_GYRO_DPS, Packet, check_values, decode_packet, packet_values
from repstream.messages.topics import DEAD_LETTER, SAMPLES
from repstream.processes.ports import free_port
from repstream.recognition.model import Model, load_model
from repstream.recognition.scoring import score
from repstream.recordings.catalogue import resolve
from repstream.recordings.recording import Recording
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    healthy,
    metrics,
    predict_arguments,
    read_predictions,
    read_topic,
    service,
    start_service,
    value_of,
    wait_for_predictions,
    wait_until,
)
from tests.broker.test_predictor import packets_of

GROUP = "poison"
ORIGIN_S = 1_763_700_000.0


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(MODEL)


@dataclass
class Running:
    """A Kafka and a predictor that goes through all of the tests below without a restart."""

    connection: KafkaConnection
    process: subprocess.Popen[bytes]
    port: int

    @property
    def bootstrap_servers(self) -> str:
        return self.connection.bootstrap_servers

    def peak_bytes(self) -> int:
        """Most memory that the predictor has had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024

    def restarts(self) -> float:
        return value_of(metrics(self.port), "repstream_session_restarts_total")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with EmbeddedBroker.start(tmp_path_factory.mktemp("poison") / "kafka") as broker:
        connection = KafkaConnection(broker.bootstrap_servers)
        ensure_topics(connection)
        port = free_port()
        arguments = predict_arguments(broker.bootstrap_servers, GROUP, "--metrics-port", str(port))
        with service(*arguments, log=tmp_path_factory.getbasetemp() / "predictor.log") as process:
            wait_until(lambda: healthy(port), "the predictor works")
            yield Running(connection, process, port)


def named(recording: Recording, device: str, session: str) -> Recording:
    return replace(recording, device=device, session=session)


@dataclass(frozen=True)
class Poison:
    """A message as some broken or hostile producer sends it."""

    send: Callable[[KafkaConnection, int], None]  # to a partition of samples
    reason: str
    value: bytes | None = None  # as the dead letter keeps it


def plainly(
    value: bytes | None, key: bytes | None = b"poison", **options: Any
) -> Callable[[KafkaConnection, int], None]:
    """Send a value, by a producer with some options."""
    stamp = options.pop("timestamp_ms", None)
    headers = options.pop("headers", [])

    def send(connection: KafkaConnection, partition: int) -> None:
        producer = connection.producer(**options)
        producer.send(SAMPLES, value, key, headers, partition, stamp).get(timeout=30)
        producer.close()

    return send


def packed(body: bytes, codec: str) -> Callable[[KafkaConnection, int], None]:
    """Send a batch of one record whose compressed bytes are given, whatever they unpack to."""

    def send(connection: KafkaConnection, partition: int) -> None:
        name = f"{codec}_encode"
        own = getattr(kafka_batches, name)
        setattr(kafka_batches, name, lambda _data: body)
        try:
            # What goes in only has to be larger than what comes out.
            plainly(bytes(len(body) + 1_000), compression_type=codec)(connection, partition)
        finally:
            setattr(kafka_batches, name, own)

    return send


class _NotUtf8(str):
    """A header's key that kafka-python writes as no text at all."""

    def encode(self, *_: Any) -> bytes:  # type: ignore[override]
        return b"\xff\xfe"


def bad_packet(**changes: Any) -> bytes:
    sound = {
        "v": 1,
        "device": "poison",
        "session": "bad",
        "seq": 0,
        "t0": ORIGIN_S,
        "rate_hz": 50,
        "accel": [[0.0, 0.0, 1.0]] * 2,
        "gyro": [[0.0, 0.0, 0.0]] * 2,
    }
    return json.dumps(sound | changes).encode()


def gigabytes() -> bytes:
    """2 GB of one message, which is as much as Kafka's format can say, in 2 MB of gzip."""
    n = 125 * 2**24
    record = b"\0\0\0\x01" + _varint(n)
    head = gzip.compress(_varint(len(record) + n + 1) + record)
    return head + gzip.compress(bytes(2**24)) * 125 + gzip.compress(b"\0")


def _varint(n: int) -> bytes:
    n <<= 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


NOW_MS = int(ORIGIN_S * 1e3)
SOUND = bad_packet()
THIRTY_MB = bytes(30_000_000)

POISON: dict[str, Poison] = {
    "local time sent as UTC": Poison(
        plainly(late := bad_packet(t0=ORIGIN_S + 7_200), timestamp_ms=NOW_MS), "time", late
    ),
    "an hour and a minute ahead of now": Poison(plainly(bad_packet(t0=time.time() + 3_660)), "time"),
    "dated 2096": Poison(plainly(bad_packet(t0=3_976_300_800.0)), "time"),
    "1e160 g": Poison(plainly(huge := bad_packet(accel=[[1e160, 0, 1]] * 2)), "range", huge),
    "1e308 °/s": Poison(plainly(bad_packet(gyro=[[0, 0, -1e308]] * 2)), "range"),
    "1e999": Poison(plainly(SOUND.replace(b"1.0", b"1e999")), "nan"),
    "a header whose key is not UTF-8": Poison(
        plainly(SOUND, headers=[(_NotUtf8("x"), b"1")]), "unreadable-record", b""
    ),
    "2,000 headers": Poison(plainly(SOUND, headers=[("x", b"")] * 2_000), "unreadable-record", b""),
    "30 MB of zeros in 30 kB": Poison(
        plainly(THIRTY_MB, compression_type="gzip", max_request_size=40_000_000), "too-large", THIRTY_MB[: 10**6 - 6]
    ),
    "two gigabytes in 2 MB": Poison(packed(gigabytes(), "gzip"), "unreadable-record", b""),
    "a device of 900 kB": Poison(plainly(bad_packet(device="x" * 900_000), b"x" * 900_000), "shape"),
    "a session with a line break": Poison(plainly(bad_packet(session="a\nb")), "shape"),
    "no key": Poison(plainly(SOUND, None), "key", SOUND),
    "nothing at all": Poison(plainly(None), "not-json"),
    "16 MB of junk": Poison(plainly(junk := os.urandom(16_000_000)), "too-large", junk[: 10**6 - 6]),
}


@pytest.mark.parametrize("kind", POISON)
def test_one_bad_message_costs_one_message(running: Running, model: Model, kind: str) -> None:
    """Good ones before and after it, on its partition and on another, are predicted as `score` predicts them."""
    base = resolve(["spar/s08-left-ROW-1"])[0]
    suffix = f"{list(POISON).index(kind)}"
    poison = POISON[kind]
    # Two devices whose keys Kafka puts on different partitions.
    sessions = [named(base, device, f"{device}-{suffix}") for device in ("spar-s08-left", "spar-s09-right")]
    expected = {
        messages.prediction_id(s.device, s.session, index): row
        for s in sessions
        for scores in [score(s, model)]
        for index, row in zip(scores.windows.index.tolist(), scores.probabilities, strict=True)
    }
    packets = [(p.device.encode(), encode(p), p) for s in sessions for p in packets_of(s, origin_s=ORIGIN_S)]
    packets.sort(key=lambda packet: packet[2].seq)
    half = len(packets) // 2
    peak, restarts = running.peak_bytes(), running.restarts()
    producer = running.connection.producer()
    places = [producer.send(SAMPLES, key=key, value=value).get(timeout=30) for key, value, _ in packets[:2]]
    assert len({place.partition for place in places}) == 2
    for key, value, _ in packets[2:half]:
        producer.send(SAMPLES, key=key, value=value)
    producer.flush()
    ends = _ends(running.connection)
    poison.send(running.connection, places[0].partition)
    for key, value, _ in packets[half:]:
        producer.send(SAMPLES, key=key, value=value)
    producer.close()

    def found() -> list[messages.Prediction]:
        return [p for p in read_predictions(running.bootstrap_servers) if p.session.endswith(f"-{suffix}")]

    wait_until(lambda: len(found()) >= len(expected), f"{len(expected)} predictions beside {kind}", 60)
    assert_stream_equals_batch(found(), expected, model)
    place = {"topic": SAMPLES, "partition": str(places[0].partition), "offset": str(ends[places[0].partition])}
    letters = [
        (headers, record.value)
        for record in read_topic(running.bootstrap_servers, DEAD_LETTER)
        for headers in [{name: value.decode() for name, value in record.headers}]
        if headers.items() >= place.items()
    ]
    assert [headers["reason"] for headers, _ in letters] == [poison.reason], letters
    if poison.value is not None:
        assert letters[0][1] == poison.value
    assert running.process.poll() is None
    assert running.restarts() == restarts
    assert running.peak_bytes() - peak < 200e6


def _ends(connection: KafkaConnection) -> dict[int, int]:
    consumer = connection.consumer()
    try:
        return {tp.partition: end for tp, end in consumer.end_offsets(consumer.partitions_of(SAMPLES)).items()}
    finally:
        consumer.close()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_what_other_clients_compress_is_read_like_the_rest(running: Running, model: Model, codec: str) -> None:
    recording = named(resolve(["spar/s08-left-PEN-1"])[0], "spar-s08-left", f"by-{codec}")
    scores = score(recording, model)
    expected = {
        messages.prediction_id(recording.device, recording.session, index): row
        for index, row in zip(scores.windows.index.tolist(), scores.probabilities, strict=True)
    }
    producer = running.connection.producer(compression_type=codec)
    for packet in packets_of(recording, origin_s=ORIGIN_S):
        producer.send(SAMPLES, key=packet.device.encode(), value=encode(packet))
    producer.close()

    def found() -> list[messages.Prediction]:
        return [p for p in read_predictions(running.bootstrap_servers) if p.session == recording.session]

    wait_until(lambda: len(found()) >= len(expected), f"predictions of what {codec} compressed", 60)
    assert_stream_equals_batch(found(), expected, model)


def axes(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, float, float]]]:
    return st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=20)


#: What is within bounds once it is scaled, and whatever JSON can say.
small = axes(st.floats(-1.0, 1.0))
wild = axes(st.floats(allow_nan=False, allow_infinity=False))
sizes = st.sampled_from([1e-320, 1e-160, 1e-9, 1.0, 1e2, 1e4, MAX_ACCEL_G])


def test_whatever_decoding_accepts_goes_all_the_way_to_kafka(running: Running, model: Model) -> None:
    """Numbers of any size, and samples that are alike, through windows, features, model and a real send."""
    engine, partition = Engine(model.window, 25), Partition()
    producer = running.connection.producer()
    count = iter(range(10**9))
    accepted = []

    @given(drawn=st.tuples(small, small, sizes) | st.tuples(wild, wild, st.just(1.0)))
    @settings(max_examples=150, deadline=None)
    def each(drawn: tuple[list[Any], list[Any], float]) -> None:
        accel, gyro, scale = drawn
        n = min(len(accel), len(gyro))
        number = next(count)
        for seq in range(-(-200 // n)):
            packet = Packet(
                v=1,
                device="any",
                session=f"any-{number}",
                seq=seq,
                accel=[tuple(x * scale for x in row) for row in accel[:n]],
                gyro=[tuple(x * scale for x in row) for row in gyro[:n]],
                t0=ORIGIN_S + number * 10 + seq * n / 50,
                rate_hz=50.0,
            )
            data = encode(packet)
            try:
                read = decode_packet(data, b"any", int((packet.t0 or 0) * 1e3))
                check_values(packet_values([read]))
            except messages.MessageError:
                refused_packet(data, b"any")
                return
            accepted.append(number)
            values = packet_values([read])
            assert (np.abs(values) <= np.repeat([MAX_ACCEL_G, MAX_GYRO_DPS], 3)).all()
            finished = engine.advance([read], [partition], [seq], values, 0.0)
            features = model.features.compute(finished.values, finished.sides)
            assert np.isfinite(features).all()
            probabilities = model.predict(features)
            assert np.isfinite(probabilities).all()
            producer.send(SAMPLES, key=b"any", value=data, timestamp_ms=int((read.t0 or 0) * 1e3))

    restarts = running.restarts()
    each()
    producer.close()
    assert accepted
    wait_until(lambda: _worked_off(running.connection), "the predictor works off whatever was accepted", 60)
    assert running.process.poll() is None
    assert running.restarts() == restarts


def _worked_off(connection: KafkaConnection) -> bool:
    """Tell whether all that stands in samples is committed."""
    consumer = connection.consumer(group_id=GROUP)
    try:
        ends = consumer.end_offsets(consumer.partitions_of(SAMPLES))
        return all((consumer.committed(tp) or 0) >= end for tp, end in ends.items() if end)
    finally:
        consumer.close()


class Fuzzer:
    """Draws whole records: key, headers, timestamp, codec and value."""

    CODECS = (None, "gzip", "snappy", "lz4", "zstd")

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._sound = [encode(p) for p in packets_of(resolve(["spar/s10-left-ROW-1"])[0], origin_s=ORIGIN_S)]

    def record(self) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]], int | None]:
        """Draw key, value, headers and timestamp (ms)."""
        draw = self._random
        key = draw.choice([b"spar-s10-left", b"spar-s10-left", b"fuzz", None, b"", draw.randbytes(30), b"k" * 5_000])
        names = ["trace", "", "ü", _NotUtf8("x")]
        headers = [
            (draw.choice(names), draw.randbytes(draw.randrange(20))) for _ in range(draw.choice([0, 0, 0, 1, 3]))
        ]
        now_ms = int(time.time() * 1e3)
        stamp_ms = draw.choice([None, None, now_ms, NOW_MS, 0, 1, now_ms + 3_500_000, draw.randrange(now_ms)])
        return key, self._value(), headers, stamp_ms

    def codec(self) -> str | None:
        """Draw what compresses a record."""
        return self._random.choice(self.CODECS)

    def _value(self) -> bytes | None:
        draw = self._random
        kind = draw.randrange(8)
        sound = draw.choice(self._sound)
        if kind == 0:
            return draw.choice([None, b"", b"null", b"[]", b"{}", b"0", b"\x00" * 2_000_000])
        if kind == 1:
            return draw.randbytes(draw.randrange(2_000))
        if kind == 2:
            return sound[: draw.randrange(len(sound))]
        if kind == 3:
            broken = bytearray(sound)
            for _ in range(draw.randrange(1, 6)):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            return bytes(broken)
        packet = json.loads(sound)
        if kind == 4:
            packet[draw.choice([*packet, "unknown"])] = draw.choice(
                [None, True, -1, 0, 1e300, -1e-300, 2**63, "", "x", "\ud800", [], [[]], {}, [[1e99, 0, 0]] * 10]
            )
        elif kind == 5:
            axis = packet[draw.choice(["accel", "gyro"])]
            axis[draw.randrange(len(axis))][draw.randrange(3)] = draw.choice([1e5, -1e6, 1e160, 5e-324, 2.0**53, 0.1])
        elif kind == 6:
            packet["t0"] += draw.choice([-1e9, -86_400, -1, 0.01, 1, 3_600, 1e9, 1e12])
            packet["session"] = draw.choice(["a", "b", str(draw.random())])
        return json.dumps(packet).encode()


def test_records_drawn_at_random_are_each_predicted_or_set_aside(running: Running, model: Model) -> None:
    """Runs for 15 s, or for REPSTREAM_FUZZ_SECONDS; with REPSTREAM_FUZZ_SEED the same records again."""
    seed = int(os.environ.get("REPSTREAM_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    print(f"REPSTREAM_FUZZ_SEED={seed}")
    fuzzer = Fuzzer(seed)
    recording = named(resolve(["spar/s09-left-ROW-1"])[0], "spar-s09-left", "beside-junk")
    scores = score(recording, model)
    expected = {
        messages.prediction_id(recording.device, recording.session, index): row
        for index, row in zip(scores.windows.index.tolist(), scores.probabilities, strict=True)
    }
    good = iter(packets_of(recording, origin_s=ORIGIN_S))
    restarts = running.restarts()
    producers = {codec: running.connection.producer(compression_type=codec) for codec in Fuzzer.CODECS}
    deadline = time.monotonic() + float(os.environ.get("REPSTREAM_FUZZ_SECONDS", "15"))
    n = 0
    while time.monotonic() < deadline:
        key, value, headers, stamp_ms = fuzzer.record()
        if key is not None or value is not None:  # kafka-python sends nothing without either
            producers[fuzzer.codec()].send(SAMPLES, value, key, headers, timestamp_ms=stamp_ms)
            n += 1
        if n % 10 == 0 and (packet := next(good, None)) is not None:
            producers[None].send(SAMPLES, encode(packet), packet.device.encode())
    for packet in good:
        producers[None].send(SAMPLES, encode(packet), packet.device.encode())
    for producer in producers.values():
        producer.close()
    wait_until(lambda: _worked_off(running.connection), f"{n} random records worked off, seed {seed}", 120)
    predicted = [p for p in read_predictions(running.bootstrap_servers) if p.session == recording.session]
    assert_stream_equals_batch(predicted, expected, model)
    text = metrics(running.port)
    counted = value_of(text, "repstream_packets_consumed_total") + value_of(text, "repstream_packets_rejected_total")
    assert counted == sum(_ends(running.connection).values())
    assert running.process.poll() is None
    assert running.restarts() == restarts


def test_a_predictor_that_was_frozen_until_others_had_come_and_gone_writes_nothing_twice(
    tmp_path: Path, model: Model
) -> None:
    """It is stopped between its prediction and the transaction, goes on when the group is empty, and joins again."""
    names = ["spar/s08-left-*"]
    expected = expected_predictions(names, model)
    with EmbeddedBroker.start(tmp_path / "kafka") as broker:
        servers = broker.bootstrap_servers
        produce = ["produce", *names, "--speed", "max", "--bootstrap-servers", servers]
        subprocess.run([sys.executable, "-m", "repstream", *produce], check=True, timeout=60, capture_output=True)
        log = (tmp_path / "frozen.log").open("wb")
        frozen = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.freezing_predictor", servers, MODEL], stdout=log, stderr=log
        )
        try:
            wait_until(lambda: _is_stopped(frozen.pid), "the predictor stops itself")
            other = start_service(*predict_arguments(servers, "test", "--instance", "other"))
            try:
                assert_stream_equals_batch(wait_for_predictions(servers, len(expected)), expected, model)
            finally:
                assert end(other) == 0
            os.kill(frozen.pid, signal.SIGCONT)
            wait_until(lambda: "starting again" in (tmp_path / "frozen.log").read_text(), "its commit is refused")
            assert_stream_equals_batch(read_predictions(servers), expected, model)
            # It is in the group again and does its work.
            more = ["produce", "spar/s09-left-ROW-1", "--speed", "max", "--bootstrap-servers", servers]
            subprocess.run([sys.executable, "-m", "repstream", *more], check=True, timeout=60, capture_output=True)
            expected |= expected_predictions(["spar/s09-left-ROW-1"], model)
            assert_stream_equals_batch(wait_for_predictions(servers, len(expected)), expected, model)
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
            assert end(frozen) == 0
            log.close()


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
