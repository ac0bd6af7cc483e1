"""What each topic carries: a description of every field of every message; the one place where they are described.

`fields_table` writes the tables of docs/reference/messages.md, `docs.generate.asyncapi` the AsyncAPI document. A field
that is added to a message and not described here fails a test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec

from repstream.messages import topics
from repstream.messages.fields import EARLIEST_S, LATEST_S, MAX_NAME, VERSION
from repstream.messages.messages import (
    ALARM_CAUSES,
    ALARM_SCOPES,
    LEDGER_FATES,
    Alarm,
    ControlAction,
    ControlCommand,
    LabelInterval,
    LedgerEntry,
    Prediction,
    ProducerStatus,
)
from repstream.messages.packet import MAX_PACKET_SAMPLES, MAX_SEQ, Packet
from repstream.recordings.axes import AXES, MAX_RATE_HZ, MIN_RATE_HZ, SIDES

NAME: dict[str, Any] = {"minLength": 1, "maxLength": MAX_NAME, "pattern": "^[^/]+$"}
EVENT_TIME: dict[str, Any] = {"minimum": EARLIEST_S, "maximum": LATEST_S}
SHARE: dict[str, Any] = {"minimum": 0, "maximum": 1}
SAMPLES: dict[str, Any] = {"minItems": 1, "maxItems": MAX_PACKET_SAMPLES}


@dataclass(frozen=True)
class Field:
    """What a field says.

    Attributes
    ----------
    text : str
        In Markdown, without a full stop.
    unit : str
        Empty where it has none.
    limits : dict
        What a JSON schema adds to the field's type.
    """

    text: str
    unit: str = ""
    limits: dict[str, Any] = field(default_factory=dict)


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_V = Field("version of the message's form", limits={"const": VERSION})
_DEVICE = Field(f"1–{MAX_NAME} printable characters, none of them `/`", limits=NAME)
_SESSION = Field("an unbroken use of the device; the same characters", limits=NAME)
_MODEL = Field("`name/version`")

FIELDS: dict[type[msgspec.Struct], dict[str, Field]] = {
    Packet: {
        "v": _V,
        "device": Field(f"who sends it, the message's key: 1–{MAX_NAME} printable characters, none of them `/`", limits=NAME),
        "session": _SESSION,
        "seq": Field("number of the packet in its session, from 0", limits={"minimum": 0, "maximum": MAX_SEQ}),
        "accel": Field(f"1–{MAX_PACKET_SAMPLES} triples x, y, z; each at most 100,000 g", "g", SAMPLES),
        "gyro": Field("as many triples as `accel` has; each at most 1,000,000 °/s", "°/s", SAMPLES),
        "t0": Field("event time of the first sample; with `rate_hz`", "epoch s", EVENT_TIME),
        "rate_hz": Field(
            f"nominal rate, {MIN_RATE_HZ:g}–{MAX_RATE_HZ:g} Hz", "Hz", {"minimum": MIN_RATE_HZ, "maximum": MAX_RATE_HZ}
        ),
        "t": Field("instead of `t0`: one event time per sample, increasing, for irregular clocks", "epoch s", SAMPLES),
        "side": Field("wrist: " + _words(SIDES) + "; without it, `unknown`"),
    },
    LabelInterval: {
        "v": _V,
        "device": _DEVICE,
        "session": _SESSION,
        "start": Field("event time of the interval's first sample", "epoch s", EVENT_TIME),
        "end": Field("event time of its last sample", "epoch s", EVENT_TIME),
        "label": Field("what the wearer did"),
    },
    Prediction: {
        "v": _V,
        "id": Field("`device/session/index`: the same for the same window, whatever happens"),
        "device": _DEVICE,
        "session": _SESSION,
        "index": Field(
            "*k*: the window of grid samples *k* · hop to *k* · hop + 150. In a session whose beginning is not known, "
            "*k* is larger by the whole hops between the Unix epoch and its first sample"
        ),
        "start": Field("event time of the window's first sample", "epoch s", EVENT_TIME),
        "end": Field("event time of its last sample", "epoch s", EVENT_TIME),
        "label": Field("the likeliest exercise"),
        "confidence": Field("its probability", limits=SHARE),
        "probabilities": Field("each exercise's probability; they sum to 1"),
        "features": Field("in the order of the model's card"),
        "model": _MODEL,
        "sampled_at": Field(
            "event time of the newest sample in hand when the window closed: the last one of the packet that completed it",
            "epoch s",
        ),
        "predicted_at": Field("wall clock when the model had answered", "epoch s"),
        "signal": Field("summary of the window's samples for the alarms; only in some of a session's predictions"),
    },
    Alarm: {
        "v": _V,
        "id": Field("the same when the alarm begins and when it ends; the message's key"),
        "scope": Field("`device` for one device, `all` for all of them", limits={"enum": list(ALARM_SCOPES)}),
        "device": Field("which device; `\"\"` where the scope is `all`"),
        "cause": Field("one of " + _words(ALARM_CAUSES)),
        "axes": Field("axes that changed; empty where it is not about axes", limits={"items": {"enum": list(AXES)}}),
        "text": Field("what changed, in words"),
        "advice": Field("what to do"),
        "since": Field("event time from which on it was so", "epoch s"),
        "raised": Field("event time at which it was known to have begun", "epoch s"),
        "certainty": Field("how certain the cause is, 0 to 1", limits=SHARE),
        "model": _MODEL,
        "ended": Field("event time at which it was known to be over; null while it is open", "epoch s"),
    },
    LedgerEntry: {
        "v": _V,
        "group": Field("the predictors' consumer group"),
        "partition": Field("of `samples`", limits={"minimum": 0}),
        "offset": Field("the next packet's; all before it are counted", limits={"minimum": 0}),
        "at": Field("wall clock", "epoch s"),
        "samples": Field(
            "`sent`, and the number of each fate: their sum is `sent`", limits={"required": ["sent", *LEDGER_FATES]}
        ),
        "gaps": Field("gaps of more than 0.2 s, each of which restarted a window", limits={"minimum": 0}),
    },
    ControlCommand: {
        "v": _V,
        "id": Field("the command's own"),
        "producer": Field("the producer that is meant"),
        "action": Field("one of " + _words(get_args(ControlAction))),
        "speed": Field("pace asked for, with the action `speed`"),
        "fault": Field("kind and amount as `--inject` takes them, such as `rotate:90`, with the action `inject`"),
        "device": Field("device that gets the fault; `\"\"` for all"),
        "seconds": Field("how long the fault lasts in event time", "s"),
    },
    ProducerStatus: {
        "v": _V,
        "producer": Field("the producer that reports; the message's key"),
        "at": Field("wall clock", "epoch s"),
        "event_at": Field("event time that was due then; never ahead of `at`", "epoch s"),
        "speed": Field("pace asked for"),
        "paused": Field("whether the replay stands still"),
        "faults": Field("faults injected now, in the words of `--inject`"),
        "answered": Field("id of the last command"),
        "refused": Field("why that command was not followed; `\"\"` if it was"),
        "ended": Field("whether this is the producer's last message"),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """A topic, who writes and reads it, and what."""

    name: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    key: str
    text: str
    messages: tuple[type[msgspec.Struct], ...] = ()


TOPICS = (
    Topic(topics.SAMPLES, ("producer",), ("predictor", "monitor"), "device",
          "Packets of samples. Kafka timestamp: event time of the last sample.", (Packet,)),
    Topic(topics.LABELS, ("producer",), ("monitor",), "device",
          "What a wearer did, sent once it is over. Kafka timestamp: end of the interval.", (LabelInterval,)),
    Topic(topics.PREDICTIONS, ("predictor",), ("monitor", "store"), "device",
          "One message per window, transactional: read with `read_committed`. Kafka timestamp: end of the window.",
          (Prediction,)),
    Topic(topics.DEAD_LETTER, ("predictor",), (), "as it came",
          "Packets that cannot be read, as they came; headers `reason`, `detail`, `topic`, `partition`, `offset`. Of key "
          "and value together at most 1 MB, then also `truncated` and `size`; of what the Kafka client cannot parse or "
          "unpack only the place, with `last-offset` where it is a whole batch."),
    Topic(topics.ALARMS, ("monitor",), ("store",), "the alarm's `id`",
          "What changed: sent when an alarm begins, and again when it is over; compacted.", (Alarm,)),
    Topic(topics.LEDGER, ("predictor",), ("monitor",), "`GROUP/PARTITION`",
          "What became of all samples of a partition; compacted, so that the newest entry stands for all.", (LedgerEntry,)),
    Topic(topics.CONTROL, ("monitor", "producer"), ("producer", "monitor"), "the producer",
          "Commands to a producer started with `--controllable`, and its state; kept for an hour.",
          (ControlCommand, ProducerStatus)),
)  # fmt: skip


def fields_table(kind: type[msgspec.Struct]) -> str:
    """Write the table of a message's fields, in Markdown."""
    required = {f.name for f in msgspec.structs.fields(kind) if f.required}
    rows = [
        f"| `{name}` | {said.unit} | {said.text}{'' if name in required or name == 'v' else ' (optional)'} |"
        for name, said in FIELDS[kind].items()
    ]
    return "\n".join(["| field | unit | what |", "| --- | --- | --- |", *rows])


def topics_table() -> str:
    """Write the table of topics, in Markdown."""
    rows = [f"| `{t.name}` | {', '.join(t.writers)} | {t.key} | {t.text} |" for t in TOPICS]
    rows.append("| `repstream-state.GROUP` | predictor, monitor | | Checkpoints; compacted; internal to its writers. |")
    return "\n".join(["| topic | written by | key | what |", "| --- | --- | --- | --- |", *rows])
