"""A topic full of packets of many wearers, to be worked off."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from repstream.kafka.connection import KafkaConnection
from repstream.kafka.topics import ensure_topics
from repstream.messages.topics import SAMPLES
from repstream.recordings.recording import Recording

PACKET_SAMPLES = 10
_ORIGIN_S = 1_763_700_000.0


def fill(connection: KafkaConnection, recordings: Sequence[Recording], wearers: int, seconds: float) -> int:
    """Write `seconds` of wear of each of `wearers` to `samples`, in the order of event time.

    Wearers take turns at the recordings; one that ends begins anew.

    Returns
    -------
    int
        Packets written.
    """
    ensure_topics(connection)
    producer = connection.producer(linger_ms=20)
    pieces = [_pieces(r) for r in recordings[:wearers]]
    period_s = PACKET_SAMPLES / 50
    packets = round(seconds / period_s)
    for seq in range(packets):
        t0 = _ORIGIN_S + seq * period_s
        for wearer in range(wearers):
            mine = pieces[wearer % len(pieces)]
            device = f"bench-{wearer:05d}"
            accel, gyro = mine[seq % len(mine)]
            value = msgspec.json.encode(
                {
                    "v": 1,
                    "device": device,
                    "session": f"{device}-1",
                    "side": "left",
                    "seq": seq,
                    "t0": t0,
                    "rate_hz": 50,
                    "accel": accel,
                    "gyro": gyro,
                }
            )
            producer.send(SAMPLES, key=device.encode(), value=value, timestamp_ms=int((t0 + period_s) * 1e3))
    producer.flush()
    producer.close()
    return packets * wearers


def _pieces(recording: Recording) -> list[tuple[msgspec.Raw, msgspec.Raw]]:
    pieces = []
    for i in range(0, recording.n_samples - PACKET_SAMPLES, PACKET_SAMPLES):
        values = recording.values[i : i + PACKET_SAMPLES]
        accel, gyro = msgspec.json.encode(values[:, :3].tolist()), msgspec.json.encode(values[:, 3:].tolist())
        pieces.append((msgspec.Raw(accel), msgspec.Raw(gyro)))
    return pieces
