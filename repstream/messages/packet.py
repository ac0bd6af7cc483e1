"""Packets of samples: fields, checks and bytes.

JSON in UTF-8, keyed by device. Unknown fields are ignored, an unknown ``v`` is refused.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Sequence

import msgspec
import numpy as np

from repstream.arrays import FloatArray
from repstream.errors import MessageError
from repstream.messages.fields import EARLIEST_S, LATEST_S, VERSION, check_name
from repstream.recordings.axes import MAX_RATE_HZ, MIN_RATE_HZ

MAX_PACKET_SAMPLES = 500
# What JSON readers agree on; a checkpoint holds 64 bits.
MAX_SEQ = 2**53
# 500 samples of six shortest-form doubles are at most 75 kB; what is larger is junk and is not parsed.
MAX_PACKET_BYTES = 1_000_000
# A clock that runs further ahead of the one that stamped the record is wrong; local time taken for UTC is hours ahead.
MAX_AHEAD_S = 300.0
# Beyond what any sensor says (shock sensors end at 20,000 g, gyroscopes at 4,000 °/s), but not beyond a wrong unit.
MAX_ACCEL_G, MAX_GYRO_DPS = 1e5, 1e6
_LARGEST = np.repeat([MAX_ACCEL_G, MAX_GYRO_DPS], 3)

_Triple = tuple[float, float, float]


class Packet(msgspec.Struct, gc=False):
    """Consecutive samples of one session, as they come from `samples`.

    ``t0`` is the event time of the first sample (epoch seconds); ``t``, where given, lists one
    time a sample and replaces ``t0`` and ``rate_hz``.
    """

    v: int
    device: str
    session: str
    seq: int
    accel: list[_Triple]
    gyro: list[_Triple]
    t0: float | None = None
    rate_hz: float | None = None
    t: list[float] | None = None
    side: str = "unknown"


class _Versioned(msgspec.Struct, gc=False):
    v: int


_packet_decoder = msgspec.json.Decoder(Packet)
_version_decoder = msgspec.json.Decoder(_Versioned)


def decode_packet(data: bytes, key: bytes | None, stamp_ms: int = -1) -> Packet:
    """Read a packet and check all but the size of its numbers (`check_values`).

    Parameters
    ----------
    data : bytes
        The message's value.
    key : bytes or None
        The message's key; it must be the device.
    stamp_ms : int
        The message's Kafka timestamp, epoch ms; -1 where it has none. Unlike the clock it is the same whenever the
        message is read again, so event times are held against it.

    Raises
    ------
    MessageError
        With the reason ``too-large``, ``not-json``, ``version``, ``shape``, ``nan``, ``rate``,
        ``time`` or ``key``.
    """
    if len(data) > MAX_PACKET_BYTES:
        raise MessageError("too-large", f"{len(data)} bytes; a packet has at most {MAX_PACKET_BYTES}")
    try:
        packet = _packet_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise _explain(data, error) from None
    except UnicodeDecodeError as error:
        raise MessageError("not-json", f"not UTF-8: {error}") from None
    except RecursionError:
        raise MessageError("not-json", "nested too deeply") from None
    if packet.v != VERSION:
        raise MessageError("version", f"v is {packet.v}; this release reads v {VERSION}")
    n = len(packet.accel)
    if not 1 <= n <= MAX_PACKET_SAMPLES or len(packet.gyro) != n:
        raise MessageError(
            "shape",
            f"{n} accelerations and {len(packet.gyro)} angular rates; "
            f"a packet has 1–{MAX_PACKET_SAMPLES} of each, as many accelerations as angular rates",
        )
    if not 0 <= packet.seq <= MAX_SEQ:
        raise MessageError("shape", f"seq is {packet.seq}; it counts from 0 (to 2^53)")
    check_name("device", packet.device)
    check_name("session", packet.session)
    if key != packet.device.encode():
        raise MessageError("key", f"the key is {_shown(key)}, the device {packet.device[:80]!r}")
    _check_times(packet, n, stamp_ms)
    return packet


def _check_times(packet: Packet, n: int, stamp_ms: int) -> None:
    rate = packet.rate_hz
    if rate is not None and not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise MessageError("rate", f"rate_hz is {rate:g}; it is {MIN_RATE_HZ:g}–{MAX_RATE_HZ:g}")
    if packet.t is None:
        if packet.t0 is None or rate is None:
            raise MessageError("time", "neither t nor t0 with rate_hz")
        first = packet.t0
        last = first + (n - 1) / rate
    else:
        times = packet.t
        if len(times) != n:
            raise MessageError("time", f"{len(times)} times for {n} samples")
        # Half of 1 µs: float64 epoch seconds are 0.24 µs apart.
        if any(b - a < 0.5e-6 for a, b in itertools.pairwise(times)):
            raise MessageError("time", "t does not increase by at least 1 µs")
        first, last = times[0], times[-1]
    if not (first >= EARLIEST_S and last <= LATEST_S):
        raise MessageError("time", f"event time {first!r} is not in epoch seconds of 2001 to 2100")
    if stamp_ms >= 0 and last - stamp_ms / 1e3 > MAX_AHEAD_S:
        raise MessageError(
            "time",
            f"its event time is {last - stamp_ms / 1e3:.0f} s ahead of its Kafka timestamp, more than {MAX_AHEAD_S:g} s: "
            "is the device's clock wrong, or local time sent as UTC?",
        )


_BARE_NAN = re.compile(rb"[\[,:]\s*-?(NaN|nan|Infinity|inf)\b")


def _explain(data: bytes, error: Exception) -> MessageError:
    """Say which of the promised reasons a packet that did not decode falls under."""
    try:
        version = _version_decoder.decode(data).v
    except msgspec.ValidationError:
        return MessageError("version", "no whole number v at the top")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # JSON knows no NaN, but many writers put the bare word.
        if _BARE_NAN.search(data):
            return MessageError("nan", f"a number is not finite ({error})")
        return MessageError("not-json", str(error))
    if version != VERSION:
        return MessageError("version", f"v is {version}; this release reads v {VERSION}")
    text = str(error)
    # msgspec's texts: "Expected `float`, got `null` - at `$.accel[...][...]`", "Number out of range".
    if "out of range" in text or ("`null`" in text and ("$.accel" in text or "$.gyro" in text)):
        return MessageError("nan", f"a number is missing or not finite ({text})")
    return MessageError("shape", text)


def _shown(key: bytes | None) -> str:
    return "missing" if key is None else repr(key[:80].decode("utf-8", "replace"))


def packet_values(packets: Sequence[Packet]) -> FloatArray:
    """Flatten the samples of many packets, in their order.

    Returns
    -------
    ndarray, shape (n_samples, 6), float64
    """
    n = sum(len(p.accel) for p in packets)
    out = np.empty((n, 6))
    # One flat pass a sensor: np.array on nested lists costs eight times as much.
    flatten = itertools.chain.from_iterable
    for first, name in ((0, "accel"), (3, "gyro")):
        triples = flatten(map(operator.attrgetter(name), packets))
        out[:, first : first + 3] = np.fromiter(flatten(triples), np.float64, 3 * n).reshape(n, 3)
    return out


def plausible(values: FloatArray) -> bool:
    """Tell whether all of some samples (`packet_values`) are finite and no larger than a sensor can say."""
    return bool((np.abs(values) <= _LARGEST).all())


def check_values(values: FloatArray) -> None:
    """Refuse a packet's samples where one is not finite (a literal such as 1e999) or larger than a sensor can say.

    Raises
    ------
    MessageError
        With the reason ``nan`` or ``range``.
    """
    if not np.isfinite(values).all():
        row, axis = np.argwhere(~np.isfinite(values))[0]
        raise MessageError("nan", f"sample {row}, axis {axis} is not finite")
    if not plausible(values):
        row, axis = np.argwhere(np.abs(values) > _LARGEST)[0]
        unit = "g" if axis < 3 else "°/s"
        raise MessageError(
            "range", f"sample {row}, axis {axis} is {values[row, axis]:g} {unit}; the limit is {_LARGEST[axis]:g}"
        )


def packet_times_us(packet: Packet) -> list[int]:
    """Event times of a packet's samples, whole µs since the epoch."""
    if packet.t is not None:
        return [round(t * 1e6) for t in packet.t]
    assert packet.t0 is not None
    assert packet.rate_hz is not None
    first, step = packet.t0 * 1e6, 1e6 / packet.rate_hz
    return [round(first + i * step) for i in range(len(packet.accel))]
