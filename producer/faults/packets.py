"""Faults of packets: what a device makes of its samples, and what becomes of a message on its way.

Each is a function of a packet, the amount and a `Draw`; imports recording only. What happens to a
packet depends on the seed, the fault, the device, the session and the packet's number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from repstream.arrays import BoolArray, FloatArray, IntArray
from repstream.faults.draw import Draw
from repstream.recordings.axes import Side
from repstream.recordings.recording import Recording

# Of a sampling interval: neighbours that both move towards each other by this still do not meet.
_MAX_JITTER = 0.45
# With all packets late the stream is just slower; one in ten is late against those around it.
_LATE_SHARE = 0.1


@dataclass(frozen=True)
class Signal:
    """A packet's samples as the device is about to send them.

    Attributes
    ----------
    event_us : ndarray, shape (n_samples,)
        When the samples were really taken, µs since the epoch; spans of faults are of this time.
    times_us : ndarray, shape (n_samples,)
        When the device says that they were taken.
    values : ndarray, shape (n_samples, 6)
        g and °/s; not to be written to, as copies of a recording share it.
    index : ndarray, shape (n_samples,)
        The samples' numbers in the recording.
    """

    event_us: IntArray
    times_us: IntArray
    values: FloatArray
    index: IntArray
    rate_hz: float
    side: Side
    recording: Recording


@dataclass(frozen=True)
class Delivery:
    """A message on its way: its bytes, when it goes out, what it counts for.

    Attributes
    ----------
    due_us : int
        Event time at which it is sent, µs since the epoch.
    n_samples : int
        Samples that a reader gets from it for the first time.
    """

    due_us: int
    value: bytes
    n_samples: int


SignalFault = Callable[[Signal, BoolArray, float, Draw], Signal | None]
"""(signal, which samples lie in the span, amount, draw) -> the changed signal; None leaves it."""

DeliveryFault = Callable[[Delivery, float, Draw], list[Delivery] | None]
"""(delivery, amount, draw) -> what goes out in its place; None leaves it."""


def gap(signal: Signal, inside: BoolArray, _amount: float, _draw: Draw) -> Signal:
    """Leave out the samples in the span."""
    left = ~inside
    return replace(
        signal,
        event_us=signal.event_us[left],
        times_us=signal.times_us[left],
        values=signal.values[left],
        index=signal.index[left],
    )


def nan(signal: Signal, inside: BoolArray, amount: float, draw: Draw) -> Signal | None:
    """Make one value of a share of packets NaN."""
    if draw.share() >= amount:
        return None
    generator = draw.generator()
    values = signal.values.copy()
    values[generator.choice(np.flatnonzero(inside)), generator.integers(6)] = np.nan
    return replace(signal, values=values)


def jitter(signal: Signal, inside: BoolArray, amount: float, draw: Draw) -> Signal:
    """Move sample times by normal deviates (ms), not past their neighbours."""
    limit_us = _MAX_JITTER * 1e6 / signal.rate_hz
    moved = np.clip(draw.generator().normal(0.0, amount * 1e3, len(inside)), -limit_us, limit_us)
    return replace(signal, times_us=signal.times_us + np.where(inside, np.rint(moved), 0).astype(np.int64))


def clock_skew(signal: Signal, inside: BoolArray, amount: float, _draw: Draw) -> Signal | None:
    """Put the device's clock ahead, s."""
    # A packet as a whole: a clock that steps back within one would only make it malformed.
    if not inside[0]:
        return None
    return replace(signal, times_us=signal.times_us + round(amount * 1e6))


def duplicate(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
    """Send a share of packets twice."""
    if draw.share() >= amount:
        return None
    return [delivery, replace(delivery, n_samples=0)]


def drop(_delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
    """Lose a share of packets."""
    return [] if draw.share() < amount else None


def shuffle(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery]:
    """Hold each packet up by a random time of up to so many seconds."""
    return [replace(delivery, due_us=delivery.due_us + int(draw.share() * amount * 1e6))]


def late(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
    """Deliver one packet in ten so many seconds late."""
    if draw.share() >= _LATE_SHARE:
        return None
    return [replace(delivery, due_us=delivery.due_us + round(amount * 1e6))]


def malformed(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
    """Break a share of messages."""
    if draw.share() >= amount:
        return None
    generator = draw.generator()
    value = delivery.value
    broken = (
        value[: int(generator.integers(1, len(value)))],  # cut off on the way
        b"not a packet",
        b'{"v":99' + value[value.index(b",") :],  # from a release to come
        bytes([0xFF]) + generator.bytes(40),  # no text at all
    )
    return [replace(delivery, value=broken[int(generator.integers(len(broken)))], n_samples=0)]
