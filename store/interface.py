"""What any store promises: keep predictions and alarms once each, find them again; no database here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from repstream.errors import RepstreamError
from repstream.messages.messages import Alarm, Prediction


class StoreError(RepstreamError):
    """A store refuses, or cannot be used as asked."""


class StoreUnavailableError(StoreError):
    """A store does not answer now; it may answer later."""

    retriable = True


class RefusedRowError(StoreError):
    """A value among the rows that no store of this kind can hold; the other rows are well."""


@dataclass(frozen=True)
class PredictionQuery:
    """Which predictions.

    Attributes
    ----------
    device, session : str or None
        Patterns in which ``*`` stands for any text and ``?`` for one character; None takes all.
    label : str or None
        The predicted exercise, exactly.
    from_s, to_s : float or None
        Windows that end at `from_s` or later, and before `to_s`; epoch seconds.
    newest : int or None
        At most so many, those that ended last.
    """

    device: str | None = None
    session: str | None = None
    label: str | None = None
    from_s: float | None = None
    to_s: float | None = None
    newest: int | None = None


@dataclass(frozen=True)
class AlarmQuery:
    """Which alarms.

    Attributes
    ----------
    device : str or None
        Such a pattern; None takes all, also those that concern no single device.
    from_s, to_s : float or None
        Alarms that were open at some time from `from_s` on and before `to_s`; epoch seconds.
    newest : int or None
        At most so many, those that were raised last.
    """

    device: str | None = None
    from_s: float | None = None
    to_s: float | None = None
    newest: int | None = None


class Store(Protocol):
    """A place where predictions and alarms are kept, one of each id and model.

    Every method raises `StoreUnavailableError` where the database does not answer within seconds, and
    `StoreError` for what trying again cannot cure. Calls come from one thread at a time.
    """

    name: str
    """Where it is, without any password."""

    def prepare(self) -> None:
        """Make the tables and indexes that are not there yet; give the key of today to rows that have another."""

    def save(self, predictions: Sequence[Prediction], alarms: Sequence[Alarm]) -> None:
        """Keep them; what is there under the same id and model is replaced. An alarm that is over stays over.

        Done when the database has them on its disk. Where it fails, any part may be there or not:
        saving the same again makes it whole.

        Raises
        ------
        RefusedRowError
            Where a row holds a value that cannot be kept.
        """

    def predictions(self, query: PredictionQuery) -> Iterator[Prediction]:
        """Yield predictions by the end of their windows, the earliest first.

        ``features`` are empty where the store was told not to keep them.
        """

    def alarms(self, query: AlarmQuery) -> Iterator[Alarm]:
        """Yield alarms by when they were raised, the earliest first."""

    def delete_before(self, event_time_s: float, most: int) -> int:
        """Delete predictions and finished alarms that ended before a time, at most `most` of each.

        Returns
        -------
        int
            How many went; fewer than `most` tells that none is left.
        """

    def close(self) -> None:
        """Let go of connections."""


def once_each(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The last of each id and model: a database takes a row once in a statement."""
    return list({(p.id, p.model): p for p in predictions}.values())


def merged(alarms: Iterable[Alarm]) -> list[Alarm]:
    """The last of each id and model, over where any of them was over."""
    found: dict[tuple[str, str], Alarm] = {}
    for alarm in alarms:
        before = found.get((alarm.id, alarm.model))
        if before is not None and before.ended is not None and alarm.ended is None:
            alarm = msgspec.structs.replace(alarm, ended=before.ended)
        found[alarm.id, alarm.model] = alarm
    return list(found.values())


# --------------------------------------------------------------------------------------------- patterns
#
# In a pattern ``*`` stands for any text, ``?`` for one character, everything else for itself. Each
# database gets it in its own words, so that it searches and can use an index for what comes first.


def is_plain(pattern: str) -> bool:
    """Tell whether a pattern is a name: it fits itself alone."""
    return not set("*?") & set(pattern)


def as_regex(pattern: str) -> str:
    """A pattern for MongoDB (PCRE)."""
    words = {"*": ".*", "?": "."}
    return rf"\A{''.join(words.get(c) or re.escape(c) for c in pattern)}\z"


def as_like(pattern: str) -> str:
    r"""A pattern for SQL's ``LIKE … ESCAPE '\'``."""
    words = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}
    return "".join(words.get(c, c) for c in pattern)


def as_glob(pattern: str) -> str:
    """A pattern for SQLite's ``GLOB``, in which ``[`` begins a set."""
    return pattern.replace("[", "[[]")
