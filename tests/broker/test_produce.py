"""The producer against a real broker: what stands in the log afterwards, whoever was killed when."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from producer.faults.parse import parse_fault
from producer.service import Producer
from producer.settings import AS_FAST_AS_POSSIBLE, ProducerSettings
from producer.summary import ProduceSummary
from repstream.broker.broker import EmbeddedBroker
from repstream.errors import MessageError
from repstream.kafka.connection import KafkaConnection
from repstream.messages.messages import decode_label
from repstream.messages.packet import Packet, decode_packet, packet_times_us, packet_values
from repstream.messages.topics import LABELS, SAMPLES
from repstream.recordings.catalogue import resolve
from repstream.recordings.recording import Recording
from tests.broker.services import end, read_topic, start_service, wait_until

pytestmark = pytest.mark.broker

NAMES = ["spar/s01-left-*", "spar/s02-right-*"]
ROW = "spar/s03-left-ROW-1"  # 20 to 50 s


def produce(broker: EmbeddedBroker, recordings: Sequence[Recording], **settings: Any) -> ProduceSummary:
    """Replay as fast as possible, or as told."""
    settings.setdefault("speed", AS_FAST_AS_POSSIBLE)
    connection = KafkaConnection(broker.bootstrap_servers)
    return Producer(ProducerSettings(**settings), connection, recordings, say=lambda _text: None).run()


def packets_in_log(broker: EmbeddedBroker, suffix: str) -> dict[tuple[str, str], list[Packet]]:
    """All readable packets of sessions that end in `suffix`, in the log's order."""
    found = defaultdict(list)
    for record in read_topic(broker.bootstrap_servers, SAMPLES):
        if suffix.encode() not in record.value:
            continue  # of another test: only looked at, not decoded
        try:
            packet = decode_packet(record.value, record.key)
        except MessageError:
            continue
        if packet.session.endswith(suffix):
            found[packet.device, packet.session].append(packet)
    return found


def assert_whole_and_once(
    sent: dict[tuple[str, str], list[Packet]], recordings: Sequence[Recording], suffix: str
) -> None:
    assert sent.keys() == {(r.device, r.session + suffix) for r in recordings}
    for recording in recordings:
        packets = sent[recording.device, recording.session + suffix]
        assert [p.seq for p in packets] == list(range(len(packets)))
        np.testing.assert_array_equal(packet_values(packets), recording.values)
        times = np.array([t for p in packets for t in packet_times_us(p)])
        assert np.abs(times - times[0] - recording.times_us).max() <= 1


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker that a test may kill."""
    with EmbeddedBroker.start(tmp_path / "kafka") as running:
        yield running


def arguments(broker: EmbeddedBroker, suffix: str, *more: str) -> list[str]:
    servers = broker.bootstrap_servers
    return ["produce", *NAMES, "--bootstrap-servers", servers, "--session-suffix", suffix, "--quiet", *more]


def test_the_log_holds_the_recordings_bit_for_bit_keyed_and_timed(broker: EmbeddedBroker) -> None:
    recordings = resolve(NAMES)
    summary = produce(broker, recordings, session_suffix="-whole", packet_samples=17)
    assert_whole_and_once(packets_in_log(broker, "-whole"), recordings, "-whole")
    n_samples = sum(r.n_samples for r in recordings)
    assert (summary.samples, summary.labels, summary.wearers) == (n_samples, len(recordings), 2)
    assert summary.sessions == {(r.device, f"{r.session}-whole"): r.n_samples for r in recordings}
    partitions: dict[str, set[int]] = defaultdict(set)
    newest_ms = 0
    for record in read_topic(broker.bootstrap_servers, SAMPLES):
        packet = decode_packet(record.value, record.key)
        if packet.session.endswith("-whole"):
            assert record.timestamp == packet_times_us(packet)[-1] // 1000
            newest_ms = max(newest_ms, record.timestamp)
            partitions[packet.device].add(record.partition)
    assert all(len(used) == 1 for used in partitions.values())
    assert 0 <= time.time() - newest_ms / 1000 < 60
    labels = [decode_label(r.value) for r in read_topic(broker.bootstrap_servers, LABELS)]
    assert Counter(i.label for i in labels if i.session.endswith("-whole")) == Counter(
        str(r.labels[0]) for r in recordings if r.labels is not None
    )


def test_a_second_run_sends_nothing_and_says_how_to_replay(broker: EmbeddedBroker) -> None:
    recordings = resolve([ROW])
    said: list[str] = []
    first, second = (
        Producer(
            ProducerSettings(speed=AS_FAST_AS_POSSIBLE, session_suffix="-twice"),
            KafkaConnection(broker.bootstrap_servers),
            recordings,
            say=said.append,
        ).run()
        for _ in range(2)
    )
    assert first.samples == recordings[0].n_samples
    assert (second.packets, second.labels, second.complete, second.stopped) == (0, 0, 1, False)
    assert said == [
        "skipping 1 of 1 sessions, which are in the log already; --session-suffix TEXT replays them as new ones"
    ]
    assert_whole_and_once(packets_in_log(broker, "-twice"), recordings, "-twice")


def test_killed_again_and_again_and_run_again_everything_is_there_once(broker: EmbeddedBroker) -> None:
    recordings = resolve(NAMES)

    def n_there() -> int:
        return sum(map(len, packets_in_log(broker, "-killed").values()))

    for packet_samples in ("10", "7", "25"):
        before = n_there()
        command = arguments(broker, "-killed", "--speed", "20", "--packet-samples", packet_samples)
        process = start_service(*command)
        try:
            wait_until(lambda before=before: n_there() > before + 30, "packets of this run")  # type: ignore[misc]
        finally:
            assert end(process, signal.SIGKILL) == -signal.SIGKILL
    produce(broker, recordings, session_suffix="-killed", packet_samples=50)
    assert_whole_and_once(packets_in_log(broker, "-killed"), recordings, "-killed")
    labels = [decode_label(r.value) for r in read_topic(broker.bootstrap_servers, LABELS)]
    assert Counter(i.session for i in labels if i.session.endswith("-killed")) == Counter(
        f"{r.session}-killed" for r in recordings
    )


def test_told_to_stop_it_sees_through_what_it_sent_and_exits_0(broker: EmbeddedBroker) -> None:
    command = [sys.executable, "-m", "repstream", *arguments(broker, "-stopped", "--speed", "5", "--json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: bool(packets_in_log(broker, "-stopped")), "a first packet")
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=30)
    finally:
        end(process, signal.SIGKILL)
    assert process.returncode == 0
    summary = json.loads(stdout)
    assert summary["stopped"]
    there = packets_in_log(broker, "-stopped")
    assert summary["packets"] == sum(map(len, there.values()))
    assert {(s["device"], s["session"]): s["samples"] for s in summary["sessions"]} == {
        name: sum(len(p.accel) for p in packets) for name, packets in there.items()
    }


def test_paced_packets_reach_the_log_when_they_are_due(broker: EmbeddedBroker) -> None:
    produce(broker, resolve([ROW]), session_suffix="-paced", speed=1.0, wearers=3, duration_s=4.0)
    records = [r for r in read_topic(broker.bootstrap_servers, SAMPLES) if b'-paced"' in r.value]
    # At the recordings' own pace event time is the clock: each is written just after its last sample.
    spans = defaultdict(list)
    for record in records:
        spans[record.key].append(record.timestamp)
    assert sorted(spans) == [b"spar-s03-left", b"spar-s03-left~2", b"spar-s03-left~3"]
    assert len({times[0] for times in spans.values()}) == 3
    for times in spans.values():
        assert set(np.diff(times).tolist()) <= {199, 200, 201}
    assert max(max(times) for times in spans.values()) - min(min(t) for t in spans.values()) <= 4_000


def test_faults_in_the_log_are_those_of_the_summary(broker: EmbeddedBroker) -> None:
    faults = tuple(map(parse_fault, ("malformed:0.3@0-10", "nan:0.3@10-15", "duplicate:0.5@15")))
    summary = produce(broker, resolve([ROW]), session_suffix="-faulty", faults=faults, seed=3)
    reasons: Counter[str] = Counter()
    sent: Counter[int] = Counter()
    n = 0
    for record in read_topic(broker.bootstrap_servers, SAMPLES):
        if record.key != b"spar-s03-left" or record.timestamp < summary.origin_s * 1000:
            continue
        try:
            packet = decode_packet(record.value, record.key)
        except MessageError as error:
            reasons[error.reason] += 1
            n += 1
        else:
            if packet.session.endswith("-faulty"):
                sent[packet.seq] += 1
                n += 1
    assert n == summary.packets
    assert reasons["not-json"] + reasons["version"] == summary.faults["malformed"] > 0
    assert reasons["nan"] == summary.faults["nan"] > 0
    assert sum(times == 2 for times in sent.values()) == summary.faults["duplicate"] > 0


def test_topics_get_the_partitions_asked_for(own_broker: EmbeddedBroker) -> None:
    produce(own_broker, resolve([ROW]), partitions=7)
    consumer = KafkaConnection(own_broker.bootstrap_servers).consumer()
    try:
        assert consumer.partitions_for_topic(SAMPLES) == set(range(7))
        assert consumer.partitions_for_topic(LABELS) == set(range(7))
    finally:
        consumer.close()


def test_it_waits_for_a_broker_and_outlives_one(own_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """
    ::

        broker    X killed      |== started ==X killed, 8 s      |== started ====|
        producer    |== says so, waits, sends | keeps, tries again | catches up ==|
    """
    recordings = resolve(NAMES)
    log = tmp_path / "produce.log"
    own_broker.kill()
    process = start_service(*arguments(own_broker, "-outage", "--speed", "12"), log=log)
    try:
        wait_until(lambda: "waiting for it" in log.read_text(), "word that there is no Kafka")
        own_broker.restart()
        wait_until(lambda: bool(packets_in_log(own_broker, "-outage")), "a first packet")
        own_broker.kill()
        wait_until(lambda: "has not acknowledged anything for" in log.read_text(), "word that Kafka is gone")
        own_broker.restart()
        assert process.wait(120) == 0, log.read_text()
    finally:
        end(process, signal.SIGKILL)
    assert "acknowledges again" in log.read_text()
    assert_whole_and_once(packets_in_log(own_broker, "-outage"), recordings, "-outage")


def test_metrics_and_health_are_served(broker: EmbeddedBroker, tmp_path: Path) -> None:
    log = tmp_path / "produce.log"
    process = start_service(*arguments(broker, "-metrics", "--speed", "2", "--metrics-port", "0"), log=log)

    def page(path: str) -> str:
        base = next(w for w in log.read_text().split() if w.startswith("http://")).removesuffix("/metrics")
        with urllib.request.urlopen(base + path, timeout=5) as answer:
            return str(answer.read().decode())

    try:
        wait_until(lambda: "http://" in log.read_text(), "the metrics' address")
        wait_until(lambda: "repstream_active_wearers 2.0" in page("/metrics"), "two active wearers")
        wait_until(lambda: "repstream_packets_produced_total 0.0" not in page("/metrics"), "packets counted")
        assert "not acknowledged yet" in page("/healthz")
    finally:
        assert end(process) == 0


@pytest.mark.parametrize(("stops", "loop"), [(False, False), (True, False), (True, True)])
def test_a_producer_shows_how_much_it_still_has_to_send(broker: EmbeddedBroker, stops: bool, loop: bool) -> None:
    registry = CollectorRegistry()
    sent: list[int] = []
    settings = ProducerSettings(speed=1.0 if loop else 20.0, loop=loop, session_suffix=f"+remaining-{stops}-{loop}")
    Producer(
        settings,
        KafkaConnection(broker.bootstrap_servers),
        resolve([ROW]),
        registry=registry,
        stopping=lambda: stops and bool(sent),
        progress=lambda at: sent.append(at.packets) if at.packets else None,
        say=lambda _text: None,
    ).run()
    left = registry.get_sample_value("repstream_producer_remaining_seconds")
    assert left is not None
    if loop:
        assert left == math.inf
    elif stops:
        assert 0.0 < left < 60.0 / 20.0
    else:
        assert left == 0.0
