"""How many lines of one kind a log gets in a time; imports nothing of ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class LimitedLog:
    """Warnings of one kind: the first of each span of time are logged, then one line says how many were not.

    A sender that does everything wrong would otherwise fill the log, and hide all else in it. Counts belong in a
    metric; this is for looking at some of them.

    Parameters
    ----------
    log : logging.Logger
    what : str
        What is counted, for the line about those that were not shown, such as "dead letters".
    most : int
        Lines of one span.
    span_s : float
        s.
    clock : callable
        Monotonic time, s.
    """

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        most: int = 20,
        span_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._what = what
        self._most = most
        self._span_s = span_s
        self._clock = clock
        self._began_s = -float("inf")
        self._shown = self._hidden = 0

    def warning(self, text: str, *arguments: object) -> None:
        """Log a warning, or count it where its span has had its lines."""
        self.flush()
        if self._shown < self._most:
            self._shown += 1
            self._log.warning(text, *arguments)
        else:
            self._hidden += 1

    def flush(self) -> None:
        """Say, once a span is over, how many of it were not shown; to be called now and then."""
        now = self._clock()
        if now - self._began_s < self._span_s:
            return
        if self._hidden:
            self._log.warning("%d more %s within %.0f s are not shown", self._hidden, self._what, self._span_s)
        self._began_s = now
        self._shown = self._hidden = 0
