"""A partition's state as bytes and back, so that a restart reads seconds of the log, not hours.

The state is what `predictor.engine.engine` knows after the packet before an offset: a few numbers a
session, the samples that its open window still needs (7 kB), and what waits for an earlier packet.
It is kept in a compacted Kafka topic, in the same transaction as the offsets it belongs to (see
docs/decisions/0003-checkpoints.md).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from predictor.engine.engine import Partition, Shape, _Device, _Ended, _Past, _Pending, _Session, buffered_samples
from predictor.engine.ledger import Ledger, session_key
from repstream.errors import MessageError
from repstream.messages.packet import MAX_PACKET_SAMPLES
from repstream.windows.grid import GridResampler

_VERSION = 3
# The first version had no ledger: it is begun with what the checkpoint holds. The second knew sessions by name,
# not by `session_key`, and not its lateness: it is taken for ours.
_READABLE = (1, 2, _VERSION)
_INT64, _FLOAT64, _ROWS_OF_6 = 1, 2, 3


class _SessionState(msgspec.Struct, array_like=True):
    name: str
    side: int
    resampler: dict[str, Any]
    next_seq: int
    holes: list[tuple[int, int]]
    pending: dict[int, tuple[Any, Any]]
    newest_us: int
    quiet_us: int
    end: int
    next_index: int
    tail: Any
    last_value: Any
    counted: int | None = None
    missing: int = 0
    largest: int = MAX_PACKET_SAMPLES
    doubted: list[tuple[Any, Any]] = []
    renumbered: bool = False


class _EndedState(msgspec.Struct, array_like=True):
    next_seq: int
    holes: list[tuple[int, int]]
    missing: int
    predicted: bool = True


class _DeviceState(msgspec.Struct, array_like=True):
    name: str
    sessions: list[_SessionState]
    ended: dict[int | str, _EndedState | int]


class _LedgerState(Ledger):
    refused: dict[int | str, dict[int, int]] = msgspec.field(default_factory=dict)  # type: ignore[assignment]


class _PartitionState(msgspec.Struct, array_like=True):
    v: int
    window: int
    hop: int
    devices: list[_DeviceState]
    ledger: _LedgerState | None = None
    lateness_us: int | None = None
    past: Any = None


def _encode_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype == np.int64:
            code = _INT64
        elif value.dtype == np.float64:
            code = _ROWS_OF_6 if value.ndim == 2 else _FLOAT64
        else:
            raise NotImplementedError(f"an array of {value.dtype}")
        return msgspec.msgpack.Ext(code, value.tobytes())
    raise NotImplementedError(f"a {type(value).__name__}")


def _decode_array(code: int, data: memoryview) -> Any:
    # Copied: arrays over the message's bytes would be read-only and keep all of it alive.
    if code == _INT64:
        return np.frombuffer(data, np.int64).copy()
    flat = np.frombuffer(data, np.float64).copy()
    return flat.reshape(-1, 6) if code == _ROWS_OF_6 else flat


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_array)
_decoder = msgspec.msgpack.Decoder(_PartitionState, ext_hook=_decode_array)


def dump(partition: Partition, shape: Shape) -> bytes:
    """Write a partition's state down.

    Parameters
    ----------
    partition : Partition
        Between two batches.
    shape : Shape
        What the state was computed with.
    """
    devices = []
    for name, device in partition.devices.items():
        sessions = []
        for session in device.open.values():
            session.sync()
            sessions.append(
                _SessionState(
                    session.name,
                    session.side,
                    session.resampler.state(),
                    session.next_seq,
                    session.holes,
                    {seq: (p.times_us, p.values) for seq, p in session.pending.items()},
                    session.newest_us,
                    session.quiet_us,
                    session.end,
                    session.next_index,
                    session.tail,
                    session.last_value,
                    session.counted,
                    session.missing,
                    session.largest,
                    [(p.times_us, p.values) for p in session.doubted],
                    session.renumbered,
                )
            )
        ended: dict[int | str, _EndedState | int] = {
            key: _EndedState(e.next_seq, e.holes, e.missing, e.predicted) for key, e in device.ended.items()
        }
        devices.append(_DeviceState(name, sessions, ended))
    # As one array: thousands of small lists would take twenty times as long.
    past = np.array([(key, *past) for key, past in partition.past.items()], np.int64).ravel()
    ledger = _LedgerState(**msgspec.structs.asdict(partition.ledger))
    return _encoder.encode(_PartitionState(_VERSION, shape.window, shape.hop, devices, ledger, shape.lateness_us, past))


def load(data: bytes, lateness_us: int, now_s: float) -> tuple[Partition, Shape]:
    """Go on from what `dump` wrote.

    Parameters
    ----------
    lateness_us : int
        Taken where the checkpoint, of an early version, does not say.
    now_s : float
        When all devices in it count as seen, s.

    Returns
    -------
    Partition, Shape
        The state and what it was computed with (see `Engine.carry_over`).

    Raises
    ------
    MessageError
        Where it was written by a version that this one does not know, or is no checkpoint.
    """
    try:
        state = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise MessageError("version", f"a checkpoint that this release cannot read ({error})") from None
    if state.v not in _READABLE:
        raise MessageError("version", f"a checkpoint of version {state.v}; this release reads up to {_VERSION}")
    shape = Shape(state.window, state.hop, lateness_us if state.lateness_us is None else state.lateness_us)
    partition = Partition()
    if state.ledger is not None:
        refused = {
            session_key(*name.split("/", 1)) if isinstance(name, str) else name: holes
            for name, holes in state.ledger.refused.items()
        }
        partition.ledger = Ledger(**{**msgspec.structs.asdict(state.ledger), "refused": refused})
    if state.past is not None:
        for key, *past in state.past.reshape(-1, 1 + len(_Past._fields)).tolist():
            partition.past[key] = _Past(*past)
    for device_state in state.devices:
        ended = {
            session_key(device_state.name, key) if isinstance(key, str) else key: _Ended(e, [], 0, predicted=True)
            if isinstance(e, int)
            else _Ended(e.next_seq, e.holes, e.missing, e.predicted)
            for key, e in device_state.ended.items()
        }
        device = partition.devices[device_state.name] = _Device(ended=ended, seen_s=now_s)
        for s in device_state.sessions:
            session = _Session(device_state.name, s.name, s.side, None, partition.ledger)
            session.resampler = GridResampler.from_state(s.resampler)
            session.next_seq = s.next_seq
            session.holes = s.holes
            session.pending = {seq: _Pending(times, values) for seq, (times, values) in s.pending.items()}
            session.newest_us, session.quiet_us = s.newest_us, s.quiet_us
            session.end, session.next_index = s.end, s.next_index
            session.tail, session.last_value = s.tail, s.last_value
            session.counted = s.end - len(s.tail) if s.counted is None else s.counted
            session.missing, session.largest = s.missing, s.largest
            session.doubted = [_Pending(times, values) for times, values in s.doubted]
            session.renumbered = s.renumbered
            session.update_fast()
            device.open[s.name] = session
    if state.ledger is None:
        partition.ledger.sent = buffered_samples(partition)
    return partition, shape
