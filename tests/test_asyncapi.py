"""The AsyncAPI document: valid, complete, and true of real messages."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
import yaml

from docs.generate.asyncapi import asyncapi, asyncapi_yaml
from docs.generate.topics import FIELDS, TOPICS
from producer.replay.messages import messages
from producer.replay.plan import LogState, ProducerSettings, plan_replay
from repstream.messages import messages as message_module
from repstream.messages import packet as packet_module
from repstream.messages import topics
from repstream.messages.fields import encode
from repstream.messages.messages import (
    LEDGER_FATES,
    Alarm,
    ControlCommand,
    LabelInterval,
    LedgerEntry,
    Prediction,
    ProducerStatus,
)
from repstream.messages.packet import Packet
from tests.support import make_recording

SCHEMA = Path(__file__).parent / "data" / "asyncapi" / "3.0.0.json"

ALARM = Alarm(
    id="a", scope="device", device="d", cause="rotated", axes=["accel_x"], text="t.", advice="a.",
    since=1.7e9, raised=1.7e9, certainty=0.9, model="spar/1",
)  # fmt: skip
PREDICTION = Prediction(
    v=1, id="d/s/0", device="d", session="s", index=0, start=1.7e9, end=1.7e9 + 3, label="ROW", confidence=0.9,
    probabilities={"ROW": 0.9, "ABD": 0.1}, features=[0.5], model="spar/1", sampled_at=1.7e9 + 3.1, predicted_at=1.7e9 + 3.2,
)  # fmt: skip
MESSAGES: list[msgspec.Struct] = [
    Packet(
        v=1, device="d", session="s", seq=0, accel=[(0.0, 0.0, 1.0)], gyro=[(0.0, 0.0, 0.0)], t0=1.7e9, rate_hz=50.0
    ),
    Packet(
        v=1, device="d", session="s", seq=1, accel=[(0.0, 0.0, 1.0)], gyro=[(0.0, 0.0, 0.0)], t=[1.7e9], side="left"
    ),
    LabelInterval(device="d", session="s", start=1.7e9, end=1.7e9 + 9, label="ROW"),
    PREDICTION,
    msgspec.structs.replace(PREDICTION, signal=[0.5, 0.25]),
    ALARM,
    msgspec.structs.replace(ALARM, scope="all", device="", axes=[], ended=1.7e9 + 60),
    LedgerEntry(group="g", partition=0, offset=9, at=1.7e9, samples=dict.fromkeys(("sent", *LEDGER_FATES), 0)),
    ControlCommand(id="c", producer="p", action="pause"),
    ControlCommand(id="c", producer="p", action="inject", fault="rotate:90", device="d", seconds=60.0),
    ProducerStatus(producer="p", at=1.7e9, event_at=1.7e9, speed=1.0, paused=False, faults=["rotate:90@0"]),
]


@cache
def document() -> dict[str, Any]:
    return asyncapi()


def check(kind: str, message: bytes) -> None:
    """Hold a message's bytes to what the document says of its kind."""
    schema = {"$ref": f"#/components/schemas/{kind}", "components": document()["components"]}
    jsonschema.Draft7Validator(schema).validate(json.loads(message))


def structs_of(module: object) -> set[type[msgspec.Struct]]:
    return {
        found
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, msgspec.Struct) and not name.startswith("_")
    } - {msgspec.Struct}


def test_the_document_is_valid_asyncapi() -> None:
    jsonschema.validate(document(), json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert yaml.safe_load(asyncapi_yaml()) == document()


def test_a_document_that_is_none_is_refused() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document(), "channels": []}, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_every_message_and_every_field_of_it_is_described() -> None:
    assert set(FIELDS) == structs_of(message_module) | structs_of(packet_module)
    for kind, said in FIELDS.items():
        assert set(said) == {f.encode_name for f in msgspec.structs.fields(kind)}, kind.__name__
        for name, found in document()["components"]["schemas"][kind.__name__]["properties"].items():
            assert found.get("description") or name == "kind", f"{kind.__name__}.{name}"


def test_every_topic_is_a_channel_with_its_messages() -> None:
    named = {
        value
        for name, value in vars(topics).items()
        if name.isupper() and isinstance(value, str) and not name.endswith("_GROUP")
    }
    assert {channel["address"] for channel in document()["channels"].values()} == named == {t.name for t in TOPICS}
    assert {kind for topic in TOPICS for kind in topic.messages} == set(FIELDS)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_an_encoded_message_is_as_described(message: msgspec.Struct) -> None:
    check(type(message).__name__, encode(message))


def test_there_is_an_instance_of_every_message() -> None:
    assert {type(message) for message in MESSAGES} == set(FIELDS)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Packet", {"v": 2}),
        ("Packet", {"device": "a/b"}),
        ("Packet", {"seq": -1}),
        ("Packet", {"accel": []}),
        ("Packet", {"accel": [[0, 0]]}),
        ("Packet", {"rate_hz": 5}),
        ("Prediction", {"confidence": 1.5}),
        ("Prediction", {"probabilities": {"ROW": "much"}}),
        ("Alarm", {"cause": "gremlins"}),
        ("Alarm", {"axes": ["accel_w"]}),
        ("Alarm", {"scope": "some"}),
        ("LedgerEntry", {"samples": {"sent": 1}}),
        ("ControlCommand", {"action": "explode"}),
        ("ProducerStatus", {"paused": "no"}),
    ],
)
def test_a_message_that_is_not_as_described_is_refused(kind: str, change: dict[str, Any]) -> None:
    (good, *_) = (m for m in MESSAGES if type(m).__name__ == kind)
    with pytest.raises(jsonschema.ValidationError):
        check(kind, encode({**json.loads(encode(good)), **change}))


def test_a_packet_without_a_field_that_it_needs_is_refused() -> None:
    without = {name: value for name, value in json.loads(encode(MESSAGES[0])).items() if name != "seq"}
    with pytest.raises(jsonschema.ValidationError, match="'seq' is a required property"):
        check("Packet", encode(without))


@pytest.mark.parametrize("irregular", [False, True])
def test_what_a_producer_sends_is_as_described(irregular: bool) -> None:
    time_s = np.arange(400) / 50 + (np.random.default_rng(0).uniform(0, 0.005, 400) if irregular else 0)
    recording = make_recording(400, labels=["ROW"] * 400, time_s=time_s - time_s[0])
    plan = plan_replay(ProducerSettings(), [recording], 1_700_000_000_000_000, LogState())
    sent = list(messages(plan))
    kinds = {topics.SAMPLES: "Packet", topics.LABELS: "LabelInterval"}
    assert {message.topic for message in sent} == set(kinds)
    for message in sent:
        check(kinds[message.topic], message.value)
