"""The JSON of packets. Copies of a recording share that of its values, as only ids and times differ; pure."""

from __future__ import annotations

import json

import msgspec
import numpy as np

from repstream.arrays import FloatArray, IntArray
from repstream.messages.fields import VERSION
from repstream.recordings.axes import Side
from repstream.recordings.recording import Recording

# Packets of an irregular clock list their times. As float64 epoch seconds and the grid's own
# tolerance (2 µs) leave room for it, 1 µs off the nominal instant still counts as regular.
_REGULAR_WITHIN_US = 1.0

_json = msgspec.json.Encoder()


class Source:
    """A recording made ready for sending.

    Parameters
    ----------
    recording : Recording
    is_shared : bool
        Whether the JSON of its values is kept, for packets of other wearers to come.

    Attributes
    ----------
    times_us : ndarray
        Of its samples, from the first one.
    times : list of int
        The same, quicker to look up one by one.
    is_regular : bool
        Whether its samples are where its rate puts them.
    labels : list of (first sample, last sample, label)
    """

    def __init__(self, recording: Recording, is_shared: bool) -> None:
        self.recording = recording
        self.times_us = recording.times_us
        self.times: list[int] = self.times_us.tolist()
        self.is_regular = is_regular(self.times_us, recording.rate_hz)
        self.labels = recording.label_intervals()
        self._bodies: dict[tuple[int, int], bytes] | None = {} if is_shared else None

    def body(self, first: int, stop: int) -> bytes:
        """Return the JSON of samples `first` to `stop` - 1, from the rate on."""
        if self._bodies is None:
            return self._encode(first, stop)
        body = self._bodies.get((first, stop))
        if body is None:
            body = self._bodies[first, stop] = self._encode(first, stop)
        return body

    def _encode(self, first: int, stop: int) -> bytes:
        return body_of(self.recording.rate_hz, self.recording.values[first:stop])


def is_regular(times_us: IntArray, rate_hz: float) -> bool:
    """Whether all samples are where their rate puts them, counted from the first (1 µs)."""
    nominal = times_us[0] + np.arange(len(times_us)) * (1e6 / rate_hz)
    return bool((np.abs(times_us - nominal) <= _REGULAR_WITHIN_US).all())


def head_of(device: str, session: str, side: Side) -> bytes:
    """Return the JSON of a session's packets up to the packet's number."""
    worn = b"" if side == "unknown" else b'"side":%b,' % _json.encode(side)
    return b'{"v":%d,"device":%b,"session":%b,%b"seq":' % (VERSION, _json.encode(device), _json.encode(session), worn)


def packet_of(head: bytes, seq: int, times_us: IntArray | int, body: bytes) -> bytes:
    """Put a packet together.

    Parameters
    ----------
    times_us : ndarray or int
        Of all samples where the clock is irregular, of the first one where it is not; µs since the epoch.
    """
    if isinstance(times_us, int):
        # All six decimals: the reader's float64 is the one nearest to this very microsecond.
        return b'%b%d,"t0":%d.%06d,%b' % (head, seq, *divmod(times_us, 1_000_000), body)
    return b'%b%d,"t":%b,%b' % (head, seq, _json.encode((times_us / 1e6).tolist()), body)


def body_of(rate_hz: float, values: FloatArray) -> bytes:
    """Return the JSON of samples, shape (n, 6), from the rate on."""
    write = _json.encode
    if not np.isfinite(values).all():
        # msgspec writes null; this is to be what careless writers put: the bare word NaN.
        def write(x: object) -> bytes:
            return json.dumps(x, separators=(",", ":")).encode()

    accel, gyro = write(values[:, :3].tolist()), write(values[:, 3:].tolist())
    return b'"rate_hz":%b,"accel":%b,"gyro":%b}' % (_json.encode(rate_hz), accel, gyro)
