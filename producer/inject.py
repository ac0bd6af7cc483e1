"""Faults put into a replay on its way out, repeatable by seed; imports errors and recording.

Each kind is one row of `FAULTS` and one function. Kinds of the level ``signal`` change the samples
of a packet before it is encoded, those of the level ``delivery`` what becomes of the message. What
happens to a packet depends on the seed, the fault, the device, the session and the packet's number
alone: not on other devices, on the pace, or on what was injected before it.

A new kind is a function of either type and a row.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from repstream.errors import SettingsError
from repstream.recording import FloatArray, IntArray, Recording, Side

SYNTAX = "KIND[:AMOUNT]@START[-END][/DEVICE]"
EXAMPLE = "drop:0.05@30-90/spar-s08-*"

# Of a sampling interval: neighbours that both move towards each other by this still do not meet.
_MAX_JITTER = 0.45
# With all packets late the stream is just slower; one in ten is late against those around it.
_LATE_SHARE = 0.1

BoolArray = npt.NDArray[np.bool_]


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


class Draw:
    """The randomness of one fault for one packet."""

    def __init__(self, *identity: object) -> None:
        text = "\x1f".join(map(str, identity)).encode()
        digest = hashlib.blake2b(text, digest_size=16).digest()
        self._share = int.from_bytes(digest[:8], "big") / 2.0**64
        self._seed = int.from_bytes(digest[8:], "big")

    def share(self) -> float:
        """Return this packet's number in [0, 1), always the same."""
        return self._share

    def generator(self) -> np.random.Generator:
        """Return a generator for whatever else is to be drawn, always in the same state."""
        return np.random.default_rng(self._seed)


SignalFault = Callable[[Signal, BoolArray, float, Draw], Signal | None]
"""(signal, which samples lie in the span, amount, draw) -> the changed signal; None leaves it."""

DeliveryFault = Callable[[Delivery, float, Draw], list[Delivery] | None]
"""(delivery, amount, draw) -> what goes out in its place; None leaves it."""


def _gap(signal: Signal, inside: BoolArray, _amount: float, _draw: Draw) -> Signal:
    left = ~inside
    return replace(
        signal,
        event_us=signal.event_us[left],
        times_us=signal.times_us[left],
        values=signal.values[left],
        index=signal.index[left],
    )


def _nan(signal: Signal, inside: BoolArray, amount: float, draw: Draw) -> Signal | None:
    if draw.share() >= amount:
        return None
    generator = draw.generator()
    values = signal.values.copy()
    values[generator.choice(np.flatnonzero(inside)), generator.integers(6)] = np.nan
    return replace(signal, values=values)


def _jitter(signal: Signal, inside: BoolArray, amount: float, draw: Draw) -> Signal:
    limit_us = _MAX_JITTER * 1e6 / signal.rate_hz
    moved = np.clip(draw.generator().normal(0.0, amount * 1e3, len(inside)), -limit_us, limit_us)
    return replace(signal, times_us=signal.times_us + np.where(inside, np.rint(moved), 0).astype(np.int64))


def _clock_skew(signal: Signal, inside: BoolArray, amount: float, _draw: Draw) -> Signal | None:
    # A packet as a whole: a clock that steps back within one would only make it malformed.
    if not inside[0]:
        return None
    return replace(signal, times_us=signal.times_us + round(amount * 1e6))


def _duplicate(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
    if draw.share() >= amount:
        return None
    return [delivery, replace(delivery, n_samples=0)]


def _drop(_delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
    return [] if draw.share() < amount else None


def _shuffle(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery]:
    return [replace(delivery, due_us=delivery.due_us + int(draw.share() * amount * 1e6))]


def _late(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
    if draw.share() >= _LATE_SHARE:
        return None
    return [replace(delivery, due_us=delivery.due_us + round(amount * 1e6))]


def _malformed(delivery: Delivery, amount: float, draw: Draw) -> list[Delivery] | None:
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


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault: what its amount means, and what it does.

    Attributes
    ----------
    unit : str or None
        Of the amount; None where the kind takes none.
    default : float
        The amount where none is given.
    allowed : (float, float)
        Smallest and largest amount.
    signal, delivery : callable or None
        One of the two: what it does, on that level.
    amount_is_length : bool
        Whether the amount is the span's length where no END is given.
    loses_packets : bool
        Whether a log that is whole may lack packets, or hold unreadable ones.
    """

    name: str
    unit: str | None
    default: float
    allowed: tuple[float, float]
    help: str
    signal: SignalFault | None = None
    delivery: DeliveryFault | None = None
    amount_is_length: bool = False
    loses_packets: bool = False


_SHARE = (0.0, 1.0)
_OF_PACKETS = "share of packets, 0–1"

_KINDS = (
    FaultKind("duplicate", _OF_PACKETS, 0.1, _SHARE, "packets are sent twice", delivery=_duplicate),
    FaultKind(
        "shuffle",
        "s",
        0.5,
        (0.0, 60.0),
        "each packet is held up by a random time of up to AMOUNT",
        delivery=_shuffle,
    ),
    FaultKind(
        "drop",
        _OF_PACKETS,
        0.1,
        _SHARE,
        "packets are lost; their numbers are missing",
        delivery=_drop,
        loses_packets=True,
    ),
    FaultKind(
        "gap",
        "s",
        1.0,
        (0.001, 86_400.0),
        "nothing is recorded from START to END, or for AMOUNT without END",
        signal=_gap,
        amount_is_length=True,
        loses_packets=True,
    ),
    FaultKind(
        "late",
        "s",
        3.0,
        (0.0, 3_600.0),
        "one packet in ten is delivered AMOUNT of event time after it was due",
        delivery=_late,
    ),
    FaultKind(
        "malformed",
        _OF_PACKETS,
        0.1,
        _SHARE,
        "packets arrive cut short, as something else than JSON, or of an unknown version",
        delivery=_malformed,
        loses_packets=True,
    ),
    FaultKind("nan", _OF_PACKETS, 0.1, _SHARE, "one value of a packet is NaN", signal=_nan, loses_packets=True),
    FaultKind(
        "jitter",
        "ms",
        2.0,
        (0.0, 1_000.0),
        "sample times move by a normal deviate of this deviation, at most 0.45 of the sampling interval",
        signal=_jitter,
    ),
    FaultKind(
        "clock-skew",
        "s",
        5.0,
        (-86_400.0, 86_400.0),
        "the device's clock is AMOUNT ahead (negative: behind)",
        signal=_clock_skew,
    ),
)

FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in _KINDS}
"""All kinds by name, in the order in which they are listed to people."""


@dataclass(frozen=True)
class Fault:
    """One fault as asked for.

    Attributes
    ----------
    amount : float
        In the kind's unit.
    start_s, end_s : float
        Span of event time from the start of the replay, s; the end (inf: none) is outside.
    device : str
        Glob of device ids.
    """

    kind: FaultKind
    amount: float
    start_s: float
    end_s: float = math.inf
    device: str = "*"


_SPEC = re.compile(r"(?P<kind>[^:@/]+)(:(?P<amount>[^@/]*))?@(?P<start>[^-/]*)(-(?P<end>[^/]*))?(/(?P<device>.*))?")


def parse_fault(spec: str) -> Fault:
    """Read one ``KIND[:AMOUNT]@START[-END][/DEVICE]``.

    Raises
    ------
    SettingsError
        Saying what is wrong with it, and showing one that is right.

    Examples
    --------
    >>> fault = parse_fault("drop:0.05@30-90/spar-s08-*")
    >>> fault.kind.name, fault.amount, fault.start_s, fault.end_s, fault.device
    ('drop', 0.05, 30.0, 90.0, 'spar-s08-*')
    """

    def wrong(what: str) -> SettingsError:
        return SettingsError(f"fault {spec!r}: {what}; write {SYNTAX}, e.g. {EXAMPLE}")

    def number(text: str, what: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise wrong(f"{what} {text!r} is not a number") from None
        if not math.isfinite(value):
            raise wrong(f"{what} {text!r} is not finite")
        return value

    match = _SPEC.fullmatch(spec)
    name = match["kind"] if match else re.split("[:@/]", spec, maxsplit=1)[0]
    kind = FAULTS.get(name)
    if kind is None:
        raise wrong(f"there is no kind {name!r}; the kinds are {', '.join(FAULTS)}")
    if match is None:
        raise wrong("it has no @START")
    if match["amount"] is not None and kind.unit is None:
        raise wrong(f"{name} takes no amount")
    amount = kind.default if match["amount"] is None else number(match["amount"], "the amount")
    low, high = kind.allowed
    if not low <= amount <= high:
        raise wrong(f"the amount of {name} is {low:g} to {high:g} ({kind.unit}), not {amount:g}")
    start_s = number(match["start"], "the start")
    end_s = math.inf if match["end"] is None else number(match["end"], "the end")
    if end_s <= start_s:
        raise wrong(f"it ends at {end_s:g} s, not after its start at {start_s:g} s")
    if kind.amount_is_length:
        if match["amount"] is not None and match["end"] is not None:
            raise wrong(f"{name} takes a length or an END, not both")
        if match["end"] is None:
            end_s = start_s + amount
    if match["device"] == "":
        raise wrong("the device after '/' is empty")
    return Fault(kind, amount, start_s, end_s, match["device"] or "*")


def describe_faults() -> str:
    """List the kinds for a person: name, unit and default of the amount, what happens."""
    lines = []
    for kind in FAULTS.values():
        amount = f":{kind.default:g} {kind.unit}" if kind.unit else ""
        lines.append(f"{kind.name}{amount}: {kind.help}")
    return "; ".join(lines)


@dataclass(frozen=True)
class _Armed:
    """A fault on one device, its span in event time."""

    fault: Fault
    start_us: int
    end_us: float
    identity: tuple[object, ...]


@dataclass
class Injector:
    """The faults that concern one device.

    Parameters
    ----------
    faults : sequence of Fault
        All that were asked for.
    seed : int
    device : str
    origin_us : int
        Event time of the start of the replay, µs since the epoch.
    counts : Counter
        Packets touched, by kind; shared with others.
    """

    faults: Sequence[Fault]
    seed: int
    device: str
    origin_us: int
    counts: Counter[str]
    _armed: list[_Armed] = field(init=False)

    def __post_init__(self) -> None:
        self._armed = []
        nth: Counter[str] = Counter()
        for fault in self.faults:
            name = fault.kind.name
            identity = (self.seed, name, nth[name], self.device)
            nth[name] += 1
            if fnmatch.fnmatchcase(self.device, fault.device):
                start, end = (self.origin_us + s * 1e6 for s in (fault.start_s, fault.end_s))
                self._armed.append(_Armed(fault, round(start), end, identity))

    def __bool__(self) -> bool:
        return bool(self._armed)

    def on_signal(self, first_us: int, last_us: int) -> list[_Armed]:
        """Faults that touch samples between these two times (inclusive)."""
        return [a for a in self._armed if a.fault.kind.signal and a.start_us <= last_us and first_us < a.end_us]

    def distort(self, signal: Signal, armed: Iterable[_Armed], session: str, seq: int) -> Signal:
        """Apply what `on_signal` found, in the order asked for; may leave no samples."""
        for a in armed:
            act = a.fault.kind.signal
            assert act is not None
            inside = (signal.event_us >= a.start_us) & (signal.event_us < a.end_us)
            if not inside.any():
                continue
            changed = act(signal, inside, a.fault.amount, Draw(*a.identity, session, seq))
            if changed is not None:
                self.counts[a.fault.kind.name] += 1
                signal = changed
        return signal

    def deliver(self, delivery: Delivery, first_us: int, session: str, seq: int) -> list[Delivery]:
        """Apply the faults of delivery to a packet that begins at `first_us`."""
        out = [delivery]
        for a in self._armed:
            act = a.fault.kind.delivery
            if act is None or not a.start_us <= first_us < a.end_us:
                continue
            draw = Draw(*a.identity, session, seq)
            changed = [act(d, a.fault.amount, draw) for d in out]
            if any(c is not None for c in changed):
                self.counts[a.fault.kind.name] += 1
            out = [d for was, now in zip(out, changed, strict=True) for d in ([was] if now is None else now)]
        return out
