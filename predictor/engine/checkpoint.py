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

from predictor.engine.ledger import Ledger, session_key
from predictor.engine.partition import Device, Partition, Shape, buffered_samples
from predictor.engine.session import Ended, Past, Session, SessionState
from repstream.service.snapshot import ArrayForm, Snapshot

# The first version had no ledger: it is begun with what the checkpoint holds. The second knew sessions by name,
# not by `session_key`, and not its lateness: it is taken for ours. The third knew of no drift.
_VERSION = 4
_FLOATS, _INTS = np.dtype(np.float64), np.dtype(np.int64)
_ARRAYS = {1: ArrayForm(_INTS), 2: ArrayForm(_FLOATS), 3: ArrayForm(_FLOATS, columns=6)}


class _DeviceState(msgspec.Struct, array_like=True):
    name: str
    sessions: list[SessionState]
    ended: dict[int | str, Ended | int]


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


_checkpoints = Snapshot(_PartitionState, "a checkpoint", _VERSION, _ARRAYS)


def dump(partition: Partition, shape: Shape) -> bytes:
    """Write a partition's state down.

    Parameters
    ----------
    partition : Partition
        Between two batches.
    shape : Shape
        What the state was computed with.
    """
    devices = [
        _DeviceState(name, [session.state() for session in device.open.values()], dict(device.ended.items()))
        for name, device in partition.devices.items()
    ]
    # As one array: thousands of small lists would take twenty times as long.
    past = np.array([(key, *past) for key, past in partition.past.items()], np.int64).ravel()
    ledger = _LedgerState(**msgspec.structs.asdict(partition.ledger))
    return _checkpoints.dump(
        _PartitionState(_VERSION, shape.window, shape.hop, devices, ledger, shape.lateness_us, past)
    )


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
    state = _checkpoints.load(data)
    shape = Shape(state.window, state.hop, lateness_us if state.lateness_us is None else state.lateness_us)
    partition = Partition()
    if state.ledger is not None:
        partition.ledger = _ledger(state.ledger)
    if state.past is not None:
        fields = len(Past._fields) if state.v >= 4 else 4
        for key, *past in state.past.reshape(-1, 1 + fields).tolist():
            partition.past[key] = Past(*past)
    for kept in state.devices:
        device = partition.devices[kept.name] = Device(ended=_ended(kept), seen_s=now_s)
        for session in kept.sessions:
            device.open[session.name] = Session.from_state(kept.name, session, partition.ledger)
    if state.ledger is None:
        partition.ledger.sent = buffered_samples(partition)
    return partition, shape


def _ledger(state: _LedgerState) -> Ledger:
    refused = {
        session_key(*name.split("/", 1)) if isinstance(name, str) else name: holes
        for name, holes in state.refused.items()
    }
    return Ledger(**{**msgspec.structs.asdict(state), "refused": refused})


def _ended(kept: _DeviceState) -> dict[int, Ended]:
    # The first version knew of an ended session only which packet would have been next.
    return {
        session_key(kept.name, key) if isinstance(key, str) else key: Ended(ended, [], 0)
        if isinstance(ended, int)
        else ended
        for key, ended in kept.ended.items()
    }
