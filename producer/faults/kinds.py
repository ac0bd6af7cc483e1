"""Faults put into a replay, repeatable by seed: the kinds.

Each kind is one row of `FAULTS`, and works at one place on the way of a sample:

=============  ====================================================  =========================
what           changes                                               module
=============  ====================================================  =========================
``movement``   what the wearer does                                  `repstream.faults.signal`
``sensor``     what the sensor measures of it, sample by sample      `repstream.faults.signal`
``signal``     what the device makes of a packet's samples           `producer.faults.packets`
``delivery``   what becomes of the message                           `producer.faults.packets`
``label``      what labels say about what the wearer does            `producer.replay.labels`
=============  ====================================================  =========================

They are applied in this order of places, at each in the order asked for. What happens depends on the
seed, the fault, the device, the session and the sample's number and time (of the packets' faults: the
packet's number) alone: not on other devices, on the pace, or on what else was injected.

A new kind is a function and a row; `injector` puts them where they belong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from producer.faults import packets
from producer.faults.packets import DeliveryFault, SignalFault
from repstream.faults import signal as sensors
from repstream.faults.signal import SensorFault
from repstream.recordings.spar import EXERCISES

EXAMPLE = "drop:0.05@30-90/spar-s08-*"


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault: what its amount means, and what it does.

    Attributes
    ----------
    help : str
        What happens, in a few words.
    unit : str or None
        Of the number in the amount; None where the kind takes none.
    default : float
        The number where none is given.
    allowed : (float, float)
        Smallest and largest number.
    parameter : str or None
        What the word in the amount is, after the number and a comma; None where the kind takes none.
    words : tuple of str
        What the word can be, the default first.
    is_gradual : bool
        Whether it can grow from nothing to its full amount.
    example : str
        One that is right.
    signal, delivery, sensor : callable or None
        What it does, on that level.
    movement : str or None
        ``rate`` or ``splice``: what `SessionSignal` does with it.
    shifts_labels : bool
        Whether it is about labels. Of these five, each kind has one.
    amount_is_length : bool
        Whether the amount is the span's length where no END is given.
    loses_packets : bool
        Whether a log that is whole may lack packets, or hold unreadable ones.
    """

    name: str
    help: str
    unit: str | None = None
    default: float = 0.0
    allowed: tuple[float, float] = (-math.inf, math.inf)
    parameter: str | None = None
    words: tuple[str, ...] = ()
    is_gradual: bool = False
    example: str = EXAMPLE
    signal: SignalFault | None = None
    delivery: DeliveryFault | None = None
    sensor: SensorFault | None = None
    movement: str | None = None
    shifts_labels: bool = False
    amount_is_length: bool = False
    loses_packets: bool = False

    @property
    def choice(self) -> str:
        """List what the word can be, for a person."""
        also = ", or three numbers: a direction" if self.sensor is sensors.rotate else ""
        return ", ".join(self.words) + also

    @property
    def amount_help(self) -> str:
        """Say what AMOUNT is, with unit and default, for a person."""
        parts = [f"AMOUNT in {self.unit}; default {self.default:g}"] if self.unit else []
        if self.parameter:
            lead = f",{self.parameter.upper()}" if self.unit else f"AMOUNT is the {self.parameter}:"
            parts.append(f"{lead} {self.choice}; default {self.words[0]}")
        if self.is_gradual:
            parts.append("~S: grows to it over S seconds; default: at once")
        return "\n".join(parts) or "no AMOUNT"


_SHARE = (0.0, 1.0)
_OF_PACKETS = "share of packets, 0–1"
_OF_TARGET = "g (accel) or °/s (gyro)"
_SENSOR_OR_AXIS = tuple(name for name in sensors.TARGETS if name != "both")

_KINDS = (
    FaultKind("duplicate", "packets are sent twice", _OF_PACKETS, 0.1, _SHARE, delivery=packets.duplicate),
    FaultKind(
        "shuffle",
        "each packet is held up by a random time of up to AMOUNT",
        "s",
        0.5,
        (0.0, 60.0),
        delivery=packets.shuffle,
    ),
    FaultKind(
        "drop",
        "packets are lost; their numbers are missing",
        _OF_PACKETS,
        0.1,
        _SHARE,
        delivery=packets.drop,
        loses_packets=True,
    ),
    FaultKind(
        "gap",
        "nothing is recorded from START to END, or for AMOUNT without END",
        "s",
        1.0,
        (0.001, 86_400.0),
        signal=packets.gap,
        amount_is_length=True,
        loses_packets=True,
    ),
    FaultKind(
        "late",
        "one packet in ten is delivered AMOUNT of event time after it was due",
        "s",
        3.0,
        (0.0, 3_600.0),
        delivery=packets.late,
    ),
    FaultKind(
        "malformed",
        "packets arrive cut short, as something else than JSON, or of an unknown version",
        _OF_PACKETS,
        0.1,
        _SHARE,
        delivery=packets.malformed,
        loses_packets=True,
    ),
    FaultKind("nan", "one value of a packet is NaN", _OF_PACKETS, 0.1, _SHARE, signal=packets.nan, loses_packets=True),
    FaultKind(
        "jitter",
        "sample times move by a normal deviate of this deviation, at most 0.45 of the sampling interval",
        "ms",
        2.0,
        (0.0, 1_000.0),
        signal=packets.jitter,
    ),
    FaultKind(
        "clock-skew",
        "the device's clock is AMOUNT ahead (negative: behind)",
        "s",
        5.0,
        (-86_400.0, 86_400.0),
        signal=packets.clock_skew,
    ),
    FaultKind(
        "rotate",
        "the sensor sits turned: both sensors' readings turn about one of its axes, by the right-hand rule",
        "°",
        90.0,
        (-360.0, 360.0),
        "axis",
        ("z", "x", "y"),
        is_gradual=True,
        example="rotate:90,x~20@60/spar-s08-*",
        sensor=sensors.rotate,
    ),
    FaultKind(
        "swap-wrist",
        "worn on the other wrist: the mirror image, while the side is sent as before",
        example="swap-wrist@60/spar-s08-*",
        sensor=sensors.swap_wrist,
    ),
    FaultKind(
        "gain",
        "readings are AMOUNT times what they should be",
        "times",
        1.2,
        (-1_000.0, 1_000.0),
        "target",
        tuple(sensors.TARGETS),
        is_gradual=True,
        example="gain:1.2,accel~20@30",
        sensor=sensors.gain,
    ),
    FaultKind(
        "offset",
        "readings are off by AMOUNT",
        _OF_TARGET,
        0.3,
        (-1e6, 1e6),
        "target",
        _SENSOR_OR_AXIS,
        is_gradual=True,
        example="offset:0.3,accel_x~20@30",
        sensor=sensors.offset,
    ),
    FaultKind(
        "noise",
        "readings are noisy: a normal deviate of this deviation is added to each",
        _OF_TARGET,
        0.3,
        (0.0, 1e6),
        "target",
        _SENSOR_OR_AXIS,
        is_gradual=True,
        example="noise:30,gyro~20@30",
        sensor=sensors.noise,
    ),
    FaultKind(
        "clip",
        "the sensor's range ends at ±AMOUNT",
        _OF_TARGET,
        1.0,
        (0.0, 1e6),
        "target",
        _SENSOR_OR_AXIS,
        example="clip:1,accel@30",
        sensor=sensors.clip,
    ),
    FaultKind(
        "stuck",
        "readings repeat the last one before START",
        parameter="target",
        words=tuple(sensors.TARGETS),
        example="stuck:gyro_y@20-40",
        sensor=sensors.stuck,
    ),
    FaultKind(
        "units",
        "m/s² are sent for g, rad/s for °/s",
        parameter="sensor",
        words=tuple(sensors.BOTH),
        example="units:accel@60",
        sensor=sensors.units,
    ),
    FaultKind(
        "rate",
        "samples are taken at AMOUNT and sent as if at the recording's rate: of 25 sent as 50, all looks twice as fast",
        "Hz",
        25.0,
        (1.0, 10_000.0),
        example="rate:25@60/spar-s08-*",
        movement="rate",
    ),
    FaultKind(
        "new-exercise",
        "the wearer does another exercise, and the labels say so; new to a model trained --without it",
        parameter="exercise",
        words=("ROW", *(name for name in EXERCISES if name != "ROW")),
        example="new-exercise:ROW@60/spar-s08-*",
        movement="splice",
    ),
    FaultKind(
        "label-shift",
        "labels stay AMOUNT behind what is done (negative: ahead of it)",
        "s",
        2.0,
        (-3_600.0, 3_600.0),
        example="label-shift:2@60/spar-s08-*",
        shifts_labels=True,
    ),
)

FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in _KINDS}
"""All kinds by name, in the order in which they are listed to people."""
