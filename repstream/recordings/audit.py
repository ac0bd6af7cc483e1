"""Proof that the sides of a split have nothing in common: no subject, no session, no stretch of movement; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from repstream.errors import RecordingError
from repstream.recordings.copies import Shared, find_shared
from repstream.recordings.recording import Recording
from repstream.recordings.splits import group_of, groups_of


@dataclass(frozen=True)
class Audit:
    """What was compared; that an audit is there at all says that nothing was found.

    Attributes
    ----------
    by : str
        What the recordings are split by.
    sides, groups, recordings, samples : int
        How much was compared.
    subjects_on_both_sides : tuple of str
        Not where the split is by subject.
    """

    by: str
    sides: int
    groups: int
    recordings: int
    samples: int
    subjects_on_both_sides: tuple[str, ...]

    def text(self) -> str:
        """Say it in a line."""
        apart = {"subject": "subject, session", "session": "session", "day": "day, session"}[self.by]
        told = (
            f"audit: {self.recordings} recordings of {self.groups} {self.by}s on {self.sides} sides, {self.samples} samples "
            f"compared by content: no {apart} or stretch of movement on two sides"
        )
        if self.subjects_on_both_sides:
            told += f"; subjects on two sides, as it is split by {self.by}: {', '.join(self.subjects_on_both_sides)}"
        return told

    def as_dict(self) -> dict[str, Any]:
        """Return it as a card holds it."""
        return {**asdict(self), "subjects_on_both_sides": list(self.subjects_on_both_sides), "leaks": 0}


def audit(recordings: Sequence[Recording], sides: Sequence[str], by: str) -> Audit:
    """Compare the sides of a split.

    Parameters
    ----------
    recordings : sequence of Recording
    sides : sequence of str
        Where each of them stands. In cross-validation each fold is a side.
    by : str
        What they are split by.

    Raises
    ------
    RecordingError
        Where two sides have something in common, naming two recordings.
    """
    whose: dict[str, set[str]] = {}
    for recording, side in zip(recordings, sides, strict=True):
        whose.setdefault(recording.subject, set()).add(side)
    for what in dict.fromkeys((by, "session")):
        _check_groups(recordings, sides, what)
    leaks = [s for s in find_shared(recordings) if sides[s.first] != sides[s.second]]
    if leaks:
        raise RecordingError(_leak_text(recordings, sides, by, leaks))
    return Audit(
        by=by,
        sides=len(set(sides)),
        groups=len(groups_of(recordings, by)),
        recordings=len(recordings),
        samples=sum(r.n_samples for r in recordings),
        subjects_on_both_sides=tuple(sorted(s for s, at in whose.items() if len(at) > 1)),
    )


def _check_groups(recordings: Sequence[Recording], sides: Sequence[str], what: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for i, recording in enumerate(recordings):
        # Sessions of one name may be several people's.
        key = (recording.subject if what == "session" else "", group_of(recording, what))
        first = seen.setdefault(key, i)
        if sides[first] != sides[i]:
            raise RecordingError(
                f"audit: {what} {key[1]!r} stands on two sides: {_name(recordings[first])} ({sides[first]}) and "
                f"{_name(recording)} ({sides[i]}); put them on one"
            )


def _leak_text(recordings: Sequence[Recording], sides: Sequence[str], by: str, leaks: Sequence[Shared]) -> str:
    worst = max(leaks, key=lambda s: s.seconds)
    one, other = recordings[worst.first], recordings[worst.second]
    more = f" (and {len(leaks) - 1} more such pairs)" if len(leaks) > 1 else ""

    def place(recording: Recording, side: str, start_s: float) -> str:
        group = group_of(recording, by)
        on = "" if side == group else f", {side}"
        return f"{_name(recording)} ({by} {group}{on}) from {start_s:.1f} s"

    return (
        f"audit: one movement stands on two sides: {place(one, sides[worst.first], worst.first_s)} and "
        f"{place(other, sides[worst.second], worst.second_s)} are the same for {worst.seconds:.1f} s{more}; "
        "leave one of the two out, or correct whose it is"
    )


def _name(recording: Recording) -> str:
    return str(recording.path or recording.name)
