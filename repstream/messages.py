"""The messages that services exchange: their fields, checks and bytes; imports errors and recording.

All are JSON in UTF-8, keyed by device. Unknown fields are ignored, an unknown ``v`` is refused.
Each check that fails names one of `REJECT_REASONS`, which label a metric and head a dead letter.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
import numpy as np

from repstream.errors import MessageError
from repstream.recording import MAX_RATE_HZ, MIN_RATE_HZ, FloatArray, Side

SAMPLES = "samples"
LABELS = "labels"
PREDICTIONS = "predictions"
DEAD_LETTER = "samples.dead-letter"
ALARMS = "alarms"
LEDGER = "ledger"
CONTROL = "control"

# Consumer groups, where nobody names others.
PREDICTOR_GROUP = "repstream-predictor"
MONITOR_GROUP = "repstream-monitor"

VERSION = 1
MAX_PACKET_SAMPLES = 500
# Characters of a device or session.
MAX_NAME = 200
# What JSON readers agree on; a checkpoint holds 64 bits.
MAX_SEQ = 2**53
# 500 samples of six shortest-form doubles are at most 75 kB; what is larger is junk and is not parsed.
MAX_PACKET_BYTES = 1_000_000
# Larger than any junk that the contract promises to keep as a dead letter (10 MB).
MAX_MESSAGE_BYTES = 16_777_216

# What the client cannot unpack or parse (`repstream.kafka_records`).
UNREADABLE = "unreadable-record"
REJECT_REASONS = ("too-large", "not-json", "version", "shape", "nan", "range", "rate", "time", "key", UNREADABLE)

# Event times outside 2001..2100 are a unit mistake (ms for s), and would overflow µs arithmetic.
_EARLIEST_S, _LATEST_S = 978_307_200.0, 4_102_444_800.0
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


class LabelInterval(msgspec.Struct, gc=False):
    """What a wearer did from ``start`` to ``end`` (epoch seconds of the first and last sample)."""

    device: str
    session: str
    start: float
    end: float
    label: str
    v: int = VERSION


class Prediction(msgspec.Struct, gc=False, omit_defaults=True):
    """What a window was taken for.

    ``start``, ``end``: event times of its first and last sample (epoch seconds). ``sampled_at``:
    event time of the newest sample in hand when the window closed, that is the last one of the
    packet that completed it. ``predicted_at``: wall clock when the model had answered. ``signal``:
    what its samples looked like (`repstream.signal_summary`), in some of a session's predictions.
    """

    v: int
    id: str
    device: str
    session: str
    index: int
    start: float
    end: float
    label: str
    confidence: float
    probabilities: dict[str, float]
    features: list[float]
    model: str
    sampled_at: float
    predicted_at: float
    signal: list[float] | None = None


AlarmCause = Literal[
    "rotated",
    "other-wrist",
    "gain",
    "offset",
    "noise",
    "clipped",
    "stuck",
    "units",
    "rate",
    "unknown-movement",
    "exercise-mix",
    "data-drift",
    "accuracy",
]
ALARM_CAUSES: tuple[AlarmCause, ...] = get_args(AlarmCause)
ALARM_SCOPES = ("device", "all")


class Alarm(msgspec.Struct, frozen=True):
    """Something changed: sent to `alarms` when it begins, and again, with ``ended``, when it is over.

    ``scope`` is "device" or "all" (then ``device`` is ""). ``axes`` are the ones that changed, of
    `AXES`. ``text`` says what changed, ``advice`` what to do. ``since``: event time from which on it
    was so; ``raised`` and ``ended``: event times at which it was known to have begun and to be over.
    ``certainty`` is 0 to 1.
    """

    id: str
    scope: str
    device: str
    cause: AlarmCause
    axes: list[str]
    text: str
    advice: str
    since: float
    raised: float
    certainty: float
    model: str
    ended: float | None = None
    v: int = VERSION


LedgerFate = Literal[
    "used",
    "late",
    "duplicate",
    "backwards",
    "gap",
    "ended",
    "skipped",
    "missing",
    "rejected",
    "buffered",
    "resampled",
]
LEDGER_FATES: tuple[LedgerFate, ...] = get_args(LedgerFate)


class LedgerEntry(msgspec.Struct, frozen=True):
    """What became of all samples of one partition of `samples`, up to an offset.

    ``offset`` is the next one; ``at`` is the wall clock (epoch seconds). ``samples`` has "sent" and
    each of `LEDGER_FATES`, whose sum it is; ``gaps`` is how many restarted a window.
    """

    group: str
    partition: int
    offset: int
    at: float
    samples: dict[str, int]
    gaps: int = 0
    v: int = VERSION


ControlAction = Literal["pause", "resume", "speed", "inject", "clear"]


class ControlCommand(msgspec.Struct, frozen=True, tag_field="kind", tag="command"):
    """What a running replay is asked to do: pause, resume, go at ``speed``, inject a fault, end all faults.

    ``producer`` is the one that is meant (`ProducerStatus`). ``fault`` is a kind with its amount, as
    ``--inject`` has them ("rotate:90"), put from now on for ``seconds`` of event time into the
    device, or all for "".
    """

    id: str
    producer: str
    action: ControlAction
    speed: float | None = None
    fault: str | None = None
    device: str = ""
    seconds: float | None = None
    v: int = VERSION


class ProducerStatus(msgspec.Struct, frozen=True, tag_field="kind", tag="status"):
    """A replay that can be controlled says how it stands: each second, and after each command.

    ``speed`` is what was asked for; event time ``event_at`` was due at the wall clock ``at`` and never
    runs ahead of it. ``faults``: what is injected now, in words of ``--inject``. ``answered`` is the
    last command's id, ``refused`` why it was not followed ("": it was). ``ended``: the last word.
    """

    producer: str
    at: float
    event_at: float
    speed: float
    paused: bool
    faults: list[str]
    answered: str = ""
    refused: str = ""
    ended: bool = False
    v: int = VERSION


class _Versioned(msgspec.Struct, gc=False):
    v: int


_packet_decoder = msgspec.json.Decoder(Packet)
_version_decoder = msgspec.json.Decoder(_Versioned)
_label_decoder = msgspec.json.Decoder(LabelInterval)
_prediction_decoder = msgspec.json.Decoder(Prediction)
_alarm_decoder = msgspec.json.Decoder(Alarm)
_ledger_decoder = msgspec.json.Decoder(LedgerEntry)
_control_decoder: msgspec.json.Decoder[ControlCommand | ProducerStatus] = msgspec.json.Decoder(
    ControlCommand | ProducerStatus
)
_encoder = msgspec.json.Encoder()


def prediction_id(device: str, session: str, index: int) -> str:
    """Name a window the same in stream and batch."""
    return f"{device}/{session}/{index}"


def check_name(what: str, name: str) -> None:
    """Refuse a device or session that is no name: it becomes a key, a line in a log, a cell in a table.

    Parameters
    ----------
    what : str
        "device" or "session", for the text.
    name : str
        1 to `MAX_NAME` printable characters without "/".

    Raises
    ------
    MessageError
        With the reason ``shape``.
    """
    if not 1 <= len(name) <= MAX_NAME or "/" in name or not name.isprintable():
        raise MessageError(
            "shape", f"{what} is {name[:80]!r}; it has 1–{MAX_NAME} characters, all of them printable, none of them '/'"
        )


def encode(message: msgspec.Struct | dict[str, object]) -> bytes:
    """Return a message's bytes (floats in their shortest exact form)."""
    return _encoder.encode(message)


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
            f"a packet has 1–{MAX_PACKET_SAMPLES} of each, as many of one as of the other",
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
    if not (first >= _EARLIEST_S and last <= _LATEST_S):
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
            "range", f"sample {row}, axis {axis} is {values[row, axis]:g} {unit}; at most {_LARGEST[axis]:g} is taken"
        )


def packet_times_us(packet: Packet) -> list[int]:
    """Event times of a packet's samples, whole µs since the epoch."""
    if packet.t is not None:
        return [round(t * 1e6) for t in packet.t]
    assert packet.t0 is not None
    assert packet.rate_hz is not None
    first, step = packet.t0 * 1e6, 1e6 / packet.rate_hz
    return [round(first + i * step) for i in range(len(packet.accel))]


def decode_label(data: bytes) -> LabelInterval:
    """Read a message of `labels`; raises `MessageError`."""
    try:
        label = _label_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("not-json", str(error)) from None
    if label.v != VERSION:
        raise MessageError("version", f"v is {label.v}; this release reads v {VERSION}")
    check_name("device", label.device)
    check_name("session", label.session)
    if not (math.isfinite(label.start) and math.isfinite(label.end) and label.end >= label.start):
        raise MessageError("time", f"a label from {label.start} to {label.end}")
    return label


def decode_prediction(data: bytes) -> Prediction:
    """Read a message of `predictions`; raises `MessageError`."""
    try:
        prediction = _prediction_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("not-json", str(error)) from None
    if prediction.v != VERSION:
        raise MessageError("version", f"v is {prediction.v}; this release reads v {VERSION}")
    check_name("device", prediction.device)
    check_name("session", prediction.session)
    if not _EARLIEST_S <= prediction.start <= prediction.end <= _LATEST_S:
        raise MessageError(
            "time", f"a window from {prediction.start!r} to {prediction.end!r}, epoch seconds of 2001 to 2100"
        )
    return prediction


def decode_alarm(data: bytes) -> Alarm:
    """Read a message of `alarms`; raises `MessageError`."""
    try:
        alarm = _alarm_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("not-json", str(error)) from None
    if alarm.v != VERSION:
        raise MessageError("version", f"v is {alarm.v}; this release reads v {VERSION}")
    if alarm.scope != "all" or alarm.device:
        check_name("device", alarm.device)
    return alarm


def ledger_key(group: str, partition: int) -> bytes:
    """Name a partition's ledger, so that a newer entry replaces an older one."""
    return f"{group}/{partition}".encode()


def decode_ledger(data: bytes) -> LedgerEntry:
    """Read a message of `ledger`; raises `MessageError`."""
    try:
        entry = _ledger_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("not-json", str(error)) from None
    if entry.v != VERSION:
        raise MessageError("version", f"v is {entry.v}; this release reads v {VERSION}")
    if "sent" not in entry.samples:
        raise MessageError("shape", "samples has no count of those sent")
    return entry


def decode_control(data: bytes) -> ControlCommand | ProducerStatus:
    """Read a message of `control`; raises `MessageError`."""
    try:
        message = _control_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("not-json", str(error)) from None
    if message.v != VERSION:
        raise MessageError("version", f"v is {message.v}; this release reads v {VERSION}")
    return message


def known_side(side: str) -> Side:
    """Map a packet's side to a known word; anything else means unknown."""
    if side == "left":
        return "left"
    if side == "right":
        return "right"
    return "unknown"
