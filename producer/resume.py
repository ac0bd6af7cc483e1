"""What the log holds of the sessions about to be replayed; imports schedule and repstream.kafka.connection.

A producer that was killed starts the normal way: it reads `samples` and `labels`, finds how far each
session got and goes on from there. So nothing is kept outside of Kafka, and a session is in the log
once and whole, whoever was killed when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from producer.replay.plan import Delivered, LogState, Wearer
from producer.settings import ProducerSettings
from repstream.kafka.connection import KafkaConnection, translated
from repstream.kafka.reading import LARGE_FETCHES, read_to_end
from repstream.messages.topics import LABELS, SAMPLES
from repstream.recordings.recording import Recording
from repstream.recordings.replays import first_lap_of

_SAY_EVERY_S = 5.0
# A device's clock may be off (a fault); the record's own timestamp, in whole ms, tells.
_CLOCK_WITHIN_US = 2_000


class _PacketOutline(msgspec.Struct, gc=False):
    """As much of a packet as tells how far a session got; its values are not parsed."""

    session: str
    seq: int
    accel: msgspec.Raw
    t0: float | None = None
    rate_hz: float | None = None
    t: list[float] | None = None


class _LabelOutline(msgspec.Struct, gc=False):
    session: str
    start: float


_packet_decoder = msgspec.json.Decoder(_PacketOutline)
_label_decoder = msgspec.json.Decoder(_LabelOutline)


@dataclass
class _Seen:
    """The packets of one session, in whatever order they stand in the log."""

    n_samples: int = 0  # of packets 0 to next_seq - 1
    next_seq: int = 0
    highest_seq: int = -1
    lowest_seq: int = -1
    lowest_us: int = 0
    ahead: dict[int, int] = field(default_factory=dict)

    def add(self, seq: int, n_samples: int, first_us: int) -> None:
        self.highest_seq = max(self.highest_seq, seq)
        if self.lowest_seq < 0 or seq < self.lowest_seq:
            self.lowest_seq, self.lowest_us = seq, first_us
        if seq >= self.next_seq:
            self.ahead.setdefault(seq, n_samples)
        while self.next_seq in self.ahead:
            self.n_samples += self.ahead.pop(self.next_seq)
            self.next_seq += 1

    def delivered(self, recording: Recording, packet_samples: int, loses_packets: bool) -> Delivered:
        """Tell where to go on.

        After the last packet that came, where packets are lost on purpose or the log no longer holds the first ones:
        to send these again would be to predict them twice.
        """
        before = min(self.lowest_seq * packet_samples, recording.n_samples - 1)
        start_us = self.lowest_us - int(recording.times_us[before])
        if (loses_packets or self.lowest_seq > 0) and self.highest_seq >= self.next_seq:
            next_seq = self.highest_seq + 1
            return Delivered(start_us, min(next_seq * packet_samples, recording.n_samples), next_seq)
        return Delivered(start_us, self.n_samples, self.next_seq)


class LogReader:
    """Takes the log's messages one by one; pure.

    Parameters
    ----------
    devices : iterable of str
        Those that are about to be replayed; others' messages are skipped by their key.
    """

    def __init__(self, devices: Iterable[str]) -> None:
        self._devices = {device.encode(): device for device in devices}
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._labels: set[tuple[str, str, int]] = set()

    def take(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        """Take a message of `samples` or `labels`; what cannot be read is not there."""
        device = self._devices.get(key or b"")
        if device is None or value is None:
            return
        try:
            if topic == LABELS:
                label = _label_decoder.decode(value)
                self._labels.add((device, label.session, round(label.start * 1e6)))
                return
            packet = _packet_decoder.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        n = bytes(packet.accel).count(b"[") - 1
        first, last = packet.t0, packet.t0
        if packet.t:
            first, last = packet.t[0], packet.t[-1]
        elif last is not None and packet.rate_hz:
            last += (n - 1) / packet.rate_hz
        if first is None or last is None or n < 1 or packet.seq < 0:
            return
        first_us = round(first * 1e6)
        ahead_us = round(last * 1e6) - timestamp_ms * 1000
        if abs(ahead_us) > _CLOCK_WITHIN_US:
            first_us -= ahead_us
        self._seen.setdefault((device, packet.session), _Seen()).add(packet.seq, n, first_us)

    def state(self, wearers: Sequence[Wearer], settings: ProducerSettings) -> LogState:
        """Say how far the sessions of these wearers got."""
        loses = any(fault.kind.loses_packets for fault in settings.faults)
        by_name = {
            (wearer.device, recording.session + settings.session_suffix): recording
            for wearer in wearers
            for recording in wearer.recordings
        }
        sessions = {}
        for (device, session), seen in self._seen.items():
            recording = by_name.get((device, session)) or by_name.get((device, first_lap_of(session)))
            if recording is not None:
                sessions[device, session] = seen.delivered(recording, settings.packet_samples, loses)
        return LogState(sessions, frozenset(self._labels))


def read_log(
    connection: KafkaConnection,
    wearers: Sequence[Wearer],
    settings: ProducerSettings,
    stopping: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _text: None,
) -> LogState:
    """Read `samples` and `labels` from their beginning to their present end.

    Raises
    ------
    BrokerUnavailableError
        Where Kafka goes away meanwhile.
    """
    reader = LogReader(wearer.device for wearer in wearers)
    said = time.monotonic()

    def tell(n_read: int, n_all: int) -> None:
        nonlocal said
        if time.monotonic() - said >= _SAY_EVERY_S:
            said = time.monotonic()
            say(f"reading how far the sessions got: {n_read} of {n_all} messages")

    with translated("reading how far the sessions got"):
        consumer = connection.consumer(**LARGE_FETCHES)
        try:
            partitions = consumer.partitions_of(SAMPLES, LABELS)
            for record in read_to_end(consumer, partitions, stopping, tell):
                reader.take(record.topic, record.key, record.value, record.timestamp)
        finally:
            consumer.close()
    return reader.state(wearers, settings)
