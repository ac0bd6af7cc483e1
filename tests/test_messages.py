"""One malformed packet costs one packet: whatever comes, it is read or refused with one of the promised reasons."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from repstream.errors import MessageError
from repstream.messages.fields import REJECT_REASONS, UNREADABLE, encode
from repstream.messages.messages import (
    Alarm,
    LabelInterval,
    Prediction,
    decode_alarm,
    decode_label,
    decode_prediction,
    prediction_id,
)
from repstream.messages.packet import (
    MAX_ACCEL_G,
    MAX_AHEAD_S,
    MAX_GYRO_DPS,
    MAX_PACKET_BYTES,
    Packet,
    check_values,
    decode_packet,
    packet_times_us,
    packet_values,
)
from repstream.messages.topics import MAX_MESSAGE_BYTES
from repstream.recordings.axes import known_side

KEY = b"spar-s01-left"
# The example of the contract, section 4.
GOOD: dict[str, object] = {
    "v": 1,
    "device": "spar-s01-left",
    "session": "spar-s01-left-ROW-1",
    "side": "left",
    "seq": 17,
    "t0": 1763700000.000,
    "rate_hz": 50,
    "accel": [[0.1, 0.2, 0.9], [0.1, 0.3, 1.0]],
    "gyro": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
}
NOW = 1763700000.0


def packet(**changes: object) -> bytes:
    """The good packet, changed; a field that becomes ... is left out."""
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}).encode()


def literal(text: str, field: str = "accel") -> bytes:
    """The good packet with a literal that `json` would not write in place of one number."""
    marker = '"HERE"'
    value: object = {"accel": [["HERE", 0, 1], [0, 0, 1]], "gyro": [["HERE", 0, 1], [0, 0, 1]]}.get(field, "HERE")
    return packet(**{field: value}).replace(marker.encode(), text.encode())


def of_samples(n: int, **changes: object) -> bytes:
    return packet(accel=[[0.0, 0.0, 1.0]] * n, gyro=[[0.0, 0.0, 0.0]] * n, **changes)


def read(data: bytes, key: bytes | None = KEY) -> Packet:
    """Everything that the predictor checks of a packet."""
    found = decode_packet(data, key)
    check_values(packet_values([found]))
    return found


def reason_of(data: bytes, key: bytes | None = KEY) -> str:
    with pytest.raises(MessageError) as refused:
        read(data, key)
    assert str(refused.value) == f"{refused.value.reason}: {refused.value.detail}"
    assert 0 < len(refused.value.detail) < 1000  # it travels in a header
    return refused.value.reason


# What is read


def test_the_contracts_example_is_read() -> None:
    found = read(packet())
    assert (found.device, found.session, found.seq, found.side) == ("spar-s01-left", "spar-s01-left-ROW-1", 17, "left")
    assert packet_values([found]).tolist() == [[0.1, 0.2, 0.9, 1.0, 2.0, 3.0], [0.1, 0.3, 1.0, 4.0, 5.0, 6.0]]
    assert packet_times_us(found) == [1763700000000000, 1763700000020000]


@pytest.mark.parametrize(
    "data",
    [
        packet(firmware="2.1", battery={"percent": [80]}),
        packet(side=...),
        packet(side="ankle"),
        packet(seq=0),
        packet(t0=..., rate_hz=..., t=[NOW, NOW + 0.02]),
        packet(t=[NOW, NOW + 0.5]),
        packet(rate_hz=10),
        packet(rate_hz=400.0),
        of_samples(1),
        of_samples(500),
        packet(device="Gerät ü", session="ß"),
    ],
)
def test_what_the_contract_allows_is_read(data: bytes) -> None:
    device = json.loads(data)["device"]
    assert read(data, device.encode()).device == device


def test_times_of_irregular_clocks_are_kept_to_the_microsecond() -> None:
    times = [NOW, NOW + 0.019999, NOW + 0.041]
    found = read(of_samples(3, t=times))
    assert packet_times_us(found) == [1763700000000000, 1763700000019999, 1763700000041000]


def test_sides_that_are_not_known_are_unknown() -> None:
    assert [known_side(s) for s in ("left", "right", "unknown", "", "LEFT")] == ["left", "right", *["unknown"] * 3]


# What is refused, by reason

BAD = [
    ("too-large", b"x" * 10_000_000),
    ("too-large", packet(padding="x" * MAX_PACKET_BYTES)),
    ("not-json", b""),
    ("not-json", b"hello"),
    ("not-json", b"\xff\xfe\x00"),
    ("not-json", packet()[:-1]),
    ("not-json", packet() + b"}"),
    ("not-json", packet(session="é").replace(rb"\u00e9", b"\xe9")),
    ("not-json", b'{"v":1,"x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    ("not-json", b'{"v":1,"x":' * 5000),
    ("version", packet(v=2)),
    ("version", packet(v=0)),
    ("version", packet(v=...)),
    ("version", packet(v="1")),
    ("version", packet(v=None)),
    ("version", packet(v=2, accel="a shape of the future")),
    ("version", literal("1e999", "v")),
    ("version", b"null"),
    ("version", b"[]"),
    ("version", b"17"),
    ("version", b"[" * 100_000),
    ("shape", packet(accel=[], gyro=[])),
    ("shape", of_samples(501)),
    ("shape", packet(accel=[[0, 0, 1]])),
    ("shape", packet(gyro=[[0, 0, 1]] * 3)),
    ("shape", packet(accel=[[0, 1], [0, 1]])),
    ("shape", packet(accel=[[0, 0, 0, 1], [0, 0, 0, 1]])),
    ("shape", packet(accel=[["0", 0, 1], [0, 0, 1]])),
    ("shape", packet(accel=[0, 0, 1])),
    ("shape", packet(accel=...)),
    ("shape", packet(gyro="none")),
    ("shape", packet(seq=-1)),
    ("shape", packet(seq=1.5)),
    ("shape", packet(seq=...)),
    ("shape", packet(seq=2**63)),
    ("shape", packet(seq=10**30)),
    ("shape", packet(device="")),
    ("shape", packet(device=...)),
    ("shape", packet(device=7)),
    ("shape", packet(session="a/b")),
    ("shape", packet(device="x" * 201)),
    ("shape", packet(session="x" * 900_000)),
    ("shape", packet(device="a\x00b")),
    ("shape", packet(session="a\nb")),
    ("shape", packet(session="\x1b[2J")),
    ("shape", packet(side=3)),
    ("nan", literal("NaN")),
    ("nan", literal("NaN", "gyro")),
    ("nan", literal("nan")),
    ("nan", literal("-Infinity")),
    ("nan", literal("null")),
    ("nan", literal("1e999")),
    ("nan", literal("-1e999", "gyro")),
    ("nan", literal("9" * 400)),
    ("range", literal("1e160")),
    ("range", literal("-1e308", "gyro")),
    ("range", literal("100000.1")),
    ("range", literal("-1000001", "gyro")),
    ("rate", packet(rate_hz=-50)),
    ("rate", packet(rate_hz=0)),
    ("rate", packet(rate_hz=9.9)),
    ("rate", packet(rate_hz=5000)),
    ("rate", packet(rate_hz=-50, t=[NOW, NOW + 1])),
    ("time", packet(t0=...)),
    ("time", packet(t0=None)),
    ("time", packet(rate_hz=...)),
    ("time", packet(t0=..., rate_hz=...)),
    ("time", packet(t=[NOW])),
    ("time", packet(t=[])),
    ("time", packet(t=[NOW, NOW + 0.02, NOW + 0.04])),
    ("time", packet(t=[NOW, NOW])),
    ("time", packet(t=[NOW + 0.02, NOW])),
    ("time", packet(t0=NOW * 1000)),
    ("time", packet(t0=12.5)),
    ("time", packet(t0=-NOW)),
    ("time", packet(t=[NOW * 1000, NOW * 1000 + 20])),
    ("time", packet(t=[NOW, NOW * 1000])),
]


def test_every_promised_reason_has_a_case() -> None:
    # A record that cannot be read at all is the client's affair: tests/test_kafka_records.py.
    assert {reason for reason, _ in BAD} | {"key", UNREADABLE} == set(REJECT_REASONS)


@pytest.mark.parametrize(("reason", "data"), BAD, ids=[f"{r}-{d[:60]!r}-{len(d)}" for r, d in BAD])
def test_a_packet_that_is_none_is_refused_with_its_reason(reason: str, data: bytes) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize("key", [None, b"", b"spar-s01-right", b"spar-s01-left ", b"\xff", b"x" * 10_000])
def test_a_foreign_or_missing_key_is_refused(key: bytes | None) -> None:
    assert reason_of(packet(), key) == "key"
    assert reason_of(packet(device="x" * 200), key) == "key"


def test_the_detail_names_what_was_found_and_what_is_allowed() -> None:
    with pytest.raises(MessageError) as refused:
        read(packet(rate_hz=5000))
    assert str(refused.value) == "rate: rate_hz is 5000; it is 10–400"
    with pytest.raises(MessageError) as refused:
        read(packet(v=2))
    assert str(refused.value) == "version: v is 2; this release reads v 1"
    with pytest.raises(MessageError) as refused:
        read(packet(), b"other")
    assert str(refused.value) == "key: the key is 'other', the device 'spar-s01-left'"


@pytest.mark.parametrize("times", [{"t0": NOW}, {"t": [NOW, NOW + 0.02]}], ids=["t0", "t"])
def test_an_event_time_may_be_ahead_of_the_kafka_timestamp_by_a_skewed_clock_but_not_by_a_wrong_one(
    times: dict[str, object],
) -> None:
    data = packet(**times)
    last_ms = int((NOW + 0.02) * 1e3)
    for stamp_ms in (-1, last_ms, last_ms + 10**9, last_ms - 1000, last_ms - int(MAX_AHEAD_S * 1e3)):
        assert decode_packet(data, KEY, stamp_ms).seq == 17
    for ahead_s in (MAX_AHEAD_S + 1, 7200, 70 * 365 * 86_400 - NOW % 1):
        with pytest.raises(
            MessageError, match=r"time: its event time is \d+ s ahead of its Kafka timestamp"
        ) as refused:
            decode_packet(data, KEY, max(last_ms - int(ahead_s * 1e3), 0))
        assert refused.value.reason == "time"


def test_a_number_out_of_range_is_named_with_its_unit() -> None:
    with pytest.raises(MessageError, match=r"range: sample 0, axis 3 is 2e\+06 °/s; the limit is 1e\+06"):
        read(literal("2e6", "gyro"))


def test_the_largest_junk_that_is_kept_as_a_dead_letter_fits_a_message() -> None:
    assert MAX_MESSAGE_BYTES > 10_000_000


@pytest.mark.slow
@given(data=st.binary(max_size=200), key=st.none() | st.binary(max_size=10))
@example(data=b"\xef\xbb\xbf{}", key=None)
@settings(max_examples=200, deadline=None)
def test_no_bytes_at_all_raise_anything_but_a_refusal(data: bytes, key: bytes | None) -> None:
    for decode in (lambda: decode_packet(data, key), lambda: decode_label(data), lambda: decode_prediction(data)):
        with pytest.raises(MessageError) as refused:
            decode()
        assert refused.value.reason in REJECT_REASONS


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([2**63, 2**64, -(2**63), 10**30, NOW, "spar-s01-left"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(field=st.sampled_from(sorted(GOOD)), value=json_values)
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_field_is_read_or_refused(field: str, value: object) -> None:
    found = read_or_refused(packet(**{field: value}))
    if found is not None:
        assert np.isfinite(packet_values([found])).all()
        assert all(0 < t < 2**63 for t in packet_times_us(found))
        msgspec.msgpack.encode(found)  # what was read can be written into a checkpoint


@given(at=st.integers(0, len(packet()) - 1), byte=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_one_wrong_byte_is_read_or_refused(at: int, byte: int) -> None:
    data = bytearray(packet())
    data[at] = byte
    read_or_refused(bytes(data))


def read_or_refused(data: bytes) -> Packet | None:
    try:
        return read(data)
    except MessageError as error:
        refusal = error
    assert refusal.reason in REJECT_REASONS
    return None


# Round trips


def triples_up_to(largest: float) -> st.SearchStrategy[list[tuple[float, float, float]]]:
    number = st.floats(-largest, largest)
    return st.lists(st.tuples(number, number, number), min_size=1, max_size=5)


@given(accel=triples_up_to(MAX_ACCEL_G), gyro=triples_up_to(MAX_GYRO_DPS), t0=st.floats(1e9, 4e9))
@settings(max_examples=100, deadline=None)
def test_every_bit_of_a_number_survives_the_message(
    accel: list[tuple[float, float, float]], gyro: list[tuple[float, float, float]], t0: float
) -> None:
    n = min(len(accel), len(gyro))
    sent = Packet(v=1, device="d", session="s", seq=0, accel=accel[:n], gyro=gyro[:n], t0=t0, rate_hz=50.0)
    back = read(encode(sent), b"d")
    assert packet_values([back]).tobytes() == packet_values([sent]).tobytes()
    assert (back.t0, back.rate_hz, back.side) == (t0, 50.0, "unknown")


def test_the_samples_of_many_packets_come_one_after_the_other() -> None:
    first, second = read(packet()), read(of_samples(3))
    together = packet_values([first, second])
    assert np.array_equal(together, np.concatenate((packet_values([first]), packet_values([second]))))
    assert packet_values([]).shape == (0, 6)


PREDICTION = Prediction(
    v=1,
    id="d/s/3",
    device="d",
    session="s",
    index=3,
    start=NOW,
    end=NOW + 3,
    label="ROW",
    confidence=0.9,
    probabilities={"ROW": 0.9, "PEN": 0.1},
    features=[0.1, 1 / 3],
    model="spar/1",
    sampled_at=NOW + 3,
    predicted_at=NOW + 3.01,
)


def test_a_prediction_has_the_fields_of_the_contract_in_their_order_and_comes_back() -> None:
    data = encode(PREDICTION)
    assert list(json.loads(data)) == [
        "v",
        "id",
        "device",
        "session",
        "index",
        "start",
        "end",
        "label",
        "confidence",
        "probabilities",
        "features",
        "model",
        "sampled_at",
        "predicted_at",
    ]
    assert decode_prediction(data) == PREDICTION
    assert prediction_id("d", "s", 3) == "d/s/3"


def test_a_label_has_the_fields_of_the_contract_and_comes_back() -> None:
    sent = LabelInterval(device="d", session="s", start=NOW, end=NOW + 1, label="ROW")
    assert set(json.loads(encode(sent))) == {"v", "device", "session", "start", "end", "label"}
    assert decode_label(encode(sent)) == sent


@pytest.mark.parametrize(
    ("changes", "reason"), [({"v": 2}, "version"), ({"end": NOW - 1}, "time"), ({"label": 3}, "not-json")]
)
def test_a_label_that_is_none_is_refused(changes: dict[str, object], reason: str) -> None:
    good = {"v": 1, "device": "d", "session": "s", "start": NOW, "end": NOW + 1, "label": "ROW"}
    with pytest.raises(MessageError) as refused:
        decode_label(json.dumps(good | changes).encode())
    assert refused.value.reason == reason


ALARM = Alarm("i", "device", "d1", "rotated", [], "t", "a", NOW, NOW, 0.9, "spar/1")


@pytest.mark.parametrize("name", ["", "x" * 201, "a/b", "a\0", "a\nb", "\x1b[2J", "a\u202eb", "\t"])
def test_what_is_no_name_of_a_device_or_session_is_refused_wherever_it_comes(name: str) -> None:
    label = LabelInterval("d1", "s1", NOW, NOW + 1, "ABD")
    replace = msgspec.structs.replace
    for message, fields, decode in (
        (PREDICTION, ("device", "session"), decode_prediction),
        (label, ("device", "session"), decode_label),
        (ALARM, ("device",), decode_alarm),
    ):
        assert decode(encode(message)) == message
        for field in fields:
            with pytest.raises(MessageError, match=rf"shape: {field} is .* 1–200 characters"):
                decode(encode(replace(message, **{field: name})))


def test_names_of_any_script_up_to_200_characters_are_read() -> None:
    for name in ("Gerät 1 ✓", "左手首" * 66, "=1+1", "x" * 200):
        sent = msgspec.structs.replace(PREDICTION, device=name, session=name)
        assert decode_prediction(encode(sent)) == sent
    for_all = msgspec.structs.replace(ALARM, scope="all", device="")
    assert decode_alarm(encode(for_all)) == for_all


def test_a_prediction_of_another_version_is_refused() -> None:
    with pytest.raises(MessageError, match=r"^version: v is 2; this release reads v 1$"):
        decode_prediction(encode(PREDICTION).replace(b'"v":1', b'"v":2'))
    with pytest.raises(MessageError, match=r"^not-json: "):
        decode_prediction(b'{"v":1,"id":' + b"[" * 5000)
