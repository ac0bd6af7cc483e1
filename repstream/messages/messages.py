"""The messages that services exchange, but for packets: their fields, checks and bytes.

All are JSON in UTF-8, keyed by device. Unknown fields are ignored, an unknown ``v`` is refused.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

from repstream.errors import MessageError
from repstream.messages.fields import EARLIEST_S, LATEST_S, VERSION, check_name


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
    what its samples looked like (`repstream.features.summary`), in some of a session's predictions.
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


_label_decoder = msgspec.json.Decoder(LabelInterval)
_prediction_decoder = msgspec.json.Decoder(Prediction)
_alarm_decoder = msgspec.json.Decoder(Alarm)
_ledger_decoder = msgspec.json.Decoder(LedgerEntry)
_control_decoder: msgspec.json.Decoder[ControlCommand | ProducerStatus] = msgspec.json.Decoder(
    ControlCommand | ProducerStatus
)


def prediction_id(device: str, session: str, index: int) -> str:
    """Name a window the same in stream and batch."""
    return f"{device}/{session}/{index}"


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
    if not EARLIEST_S <= prediction.start <= prediction.end <= LATEST_S:
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
