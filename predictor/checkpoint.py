"""A partition's state as bytes and back, so that a restart reads seconds of the log, not hours.

The state is what `predictor.engine` knows after the packet before an offset: a few numbers a
session, the samples that its open window still needs (7 kB), and what waits for an earlier packet.
It is kept in a compacted Kafka topic, in the same transaction as the offsets it belongs to (see
docs/decisions/0003-checkpoints.md).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from predictor.engine import Partition, _Device, _Ended, _Pending, _Session, buffered_samples
from predictor.ledger import Ledger
from repstream.errors import MessageError
from repstream.grid import GridResampler
from repstream.messages import MAX_PACKET_SAMPLES

_VERSION = 2
# The first version had no ledger: it is begun with what the checkpoint holds.
_READABLE = (1, _VERSION)
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


class _EndedState(msgspec.Struct, array_like=True):
    next_seq: int
    holes: list[tuple[int, int]]
    missing: int


class _DeviceState(msgspec.Struct, array_like=True):
    name: str
    sessions: list[_SessionState]
    ended: dict[str, _EndedState | int]


class _PartitionState(msgspec.Struct, array_like=True):
    v: int
    window: int
    hop: int
    devices: list[_DeviceState]
    ledger: Ledger | None = None


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


def dump(partition: Partition, window: int, hop: int) -> bytes:
    """Write a partition's state down.

    Parameters
    ----------
    partition : Partition
        Between two batches.
    window, hop : int
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
                )
            )
        ended: dict[str, _EndedState | int] = {
            key: _EndedState(e.next_seq, e.holes, e.missing) for key, e in device.ended.items()
        }
        devices.append(_DeviceState(name, sessions, ended))
    return _encoder.encode(_PartitionState(_VERSION, window, hop, devices, partition.ledger))


def load(data: bytes, window: int, hop: int, now_s: float) -> Partition:
    """Go on from what `dump` wrote.

    Raises
    ------
    MessageError
        Where it was written by another version or with another window or hop.
    """
    try:
        state = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise MessageError("version", f"a checkpoint that this release cannot read ({error})") from None
    if state.v not in _READABLE or (state.window, state.hop) != (window, hop):
        raise MessageError(
            "version",
            f"a checkpoint of version {state.v}, window {state.window} and hop {state.hop}; this predictor "
            f"has {_VERSION}, {window} and {hop}",
        )
    partition = Partition(ledger=state.ledger or Ledger())
    for device_state in state.devices:
        ended = {
            key: _Ended(e, [], 0) if isinstance(e, int) else _Ended(e.next_seq, e.holes, e.missing)
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
            session.update_fast()
            device.open[s.name] = session
    if state.ledger is None:
        partition.ledger.sent = buffered_samples(partition)
    return partition
