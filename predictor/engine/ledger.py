"""The ledger of samples: what became of each one that stands in the log; imports messages only.

It is part of a partition's state: counted again where packets are read again after a restart, and
written down with the checkpoint, so it goes on exactly, whatever is killed when. What came in is
counted where packets come in and what became of it where that is decided, so that the two agree
only if no sample is lost on the way::

    sent = used + late + duplicate + backwards + gap + ended + skipped
           + missing + rejected + resampled + buffered
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from repstream.messages.packet import MAX_PACKET_BYTES, MAX_SEQ

# A day of samples: where a session's first number promises more, it did not begin at 0.
_MOST_MISSING_S = 86_400
# Dead letters that are remembered until their place in the numbering is given up waiting for.
_REMEMBERED_SESSIONS, _REMEMBERED_A_SESSION = 256, 64


def session_key(device: str, session: str) -> int:
    """Stand for a session by 64 bits, however long its name."""
    digest = hashlib.blake2b(f"{device}/{session}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class Ledger(msgspec.Struct, gc=False):
    """Samples of one partition, by what became of them; all but what is held now (see `Engine.ledger`).

    Attributes
    ----------
    sent : int
        In packets that stand in the log, and missing.
    used : int
        On the grid, in at least one window.
    late, duplicate : int
        Of packets that came too late, or again.
    backwards : int
        Their clock ran backwards.
    gap : int
        In no window, as a gap restarted it; also those between a gap and the next window's start.
    ended : int
        In no window, as the session ended or its device fell silent first.
    skipped : int
        Between two windows, where the hop is longer than a window.
    missing : int
        In packets given up waiting for that have not come since: as many as their hole in time held.
    rejected : int
        In dead letters, as far as they can be counted.
    resampled : int
        Went into the resampler, less the grid samples that came out: below 0 where it interpolates
        more than came, above 0 where it thins out or holds back.
    gaps : int
        Gaps that restarted a window: a count of its own, not of samples.
    refused : dict
        Samples of dead letters by `session_key` and ``seq``, so that they are not missing too.
    """

    sent: int = 0
    used: int = 0
    late: int = 0
    duplicate: int = 0
    backwards: int = 0
    gap: int = 0
    ended: int = 0
    skipped: int = 0
    missing: int = 0
    rejected: int = 0
    resampled: int = 0
    gaps: int = 0
    refused: dict[int, dict[int, int]] = {}

    def reject(self, samples: int) -> None:
        """Count a dead letter of so many samples."""
        self.sent += samples
        self.rejected += samples

    def expect_hole(self, session: int, seq: int, samples: int) -> None:
        """Remember that a dead letter left a hole in a session's numbering."""
        holes = self.refused.setdefault(session, {})
        holes[seq] = samples
        if len(holes) > _REMEMBERED_A_SESSION:
            del holes[next(iter(holes))]
        if len(self.refused) > _REMEMBERED_SESSIONS:
            del self.refused[next(iter(self.refused))]

    def refused_between(self, session: int, first: int, after: int) -> int:
        """Forget the dead letters of a session before number `after`; return the samples of those from `first` on."""
        holes = self.refused.pop(session, {})
        later = {seq: n for seq, n in holes.items() if seq >= after}
        if later:
            self.refused[session] = later
        return sum(n for seq, n in holes.items() if first <= seq < after)

    def miss(self, samples: int) -> None:
        """Count samples given up waiting for; those that came after all are taken off again (below 0)."""
        self.sent += samples
        self.missing += samples

    def pass_over(self, samples: int, hop: int, window: int) -> None:
        """Count grid samples before a window's start that are in no window before it."""
        if hop > window:
            self.skipped += samples
        else:
            self.gap += samples

    def close(self, counted: int, first: int, n: int, hop: int, window: int) -> int:
        """Count the grid samples of finished windows.

        Parameters
        ----------
        counted : int
            Grid position up to which samples are counted.
        first, n : int
            Number of the first window, and how many closed.

        Returns
        -------
        int
            Grid position up to which they are counted now: the end of the last window.
        """
        start, end = first * hop, (first + n - 1) * hop + window
        used = min(end - max(start, counted), n * window)
        self.used += used
        if (passed := end - counted - used) > 0:
            self.pass_over(passed, hop, window)
        return end


def missing_samples(packets: int, hole_us: int | None, rate_hz: float, largest: int) -> int:
    """Tell how many samples packets held that never came.

    Parameters
    ----------
    packets : int
    hole_us : int or None
        From the last sample before them to the first after them; None where nothing was before.
    rate_hz : float
        The session's.
    largest : int
        Samples of the session's largest packet so far: those that never came are taken to hold no more,
        so that a pause beside them is not counted as a loss.
    """
    most = min(packets * largest, round(_MOST_MISSING_S * rate_hz))
    return most if hole_us is None else min(max(round(hole_us * rate_hz / 1e6) - 1, 0), most)


class Refused(msgspec.Struct, frozen=True):
    """What can be told of a dead letter: its samples and, where ``session`` is not empty, its place."""

    samples: int = 0
    device: str = ""
    session: str = ""
    seq: int = 0


class _Readable(msgspec.Struct, gc=False):
    accel: list[msgspec.Raw]
    device: Any = None
    session: Any = None
    seq: Any = None


_readable_decoder = msgspec.json.Decoder(_Readable)


def refused_packet(data: bytes, key: bytes | None) -> Refused:
    """Read as much of a refused packet as can be read; nothing of what is too large for a packet."""
    if len(data) > MAX_PACKET_BYTES:
        return Refused()
    try:
        packet = _readable_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Refused()
    samples, device, session, seq = len(packet.accel), packet.device, packet.session, packet.seq
    named = isinstance(device, str) and isinstance(session, str) and key == device.encode()
    if named and isinstance(seq, int) and 0 <= seq <= MAX_SEQ:
        return Refused(samples, device, session, seq)
    return Refused(samples)
