"""Reports that nobody asks for: at set times, and when an alarm begins."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from monitor.drift.reference import Current, Reference
from monitor.reports.maker import ReportError, ReportMaker
from repstream.messages.messages import Alarm

log = logging.getLogger(__name__)

# Several alarms at once are seen in one report.
_ALARM_PAUSE_S = 60.0


class ReportSchedule:
    """Ask for reports; one that cannot be had is told in the log and left out.

    Parameters
    ----------
    maker : ReportMaker
    every_s : float
        Wall time from one to the next, s; 0 for none but those of alarms.
    on_alarm : bool
        Whether alarms have theirs.
    """

    def __init__(self, maker: ReportMaker, every_s: float, *, on_alarm: bool = True) -> None:
        self._maker = maker
        self._every_s = every_s
        self._is_for_alarms = on_alarm
        self._source: Callable[[], tuple[Reference, Current]] | None = None
        self._closing = threading.Event()
        self._alarm_at_s = -float("inf")
        self._thread: threading.Thread | None = None

    def begin(self, source: Callable[[], tuple[Reference, Current]]) -> None:
        """Begin to make reports of what `source` returns; for any thread."""
        self._source = source
        if self._every_s:
            self._thread = threading.Thread(target=self._run, name="report-schedule", daemon=True)
            self._thread.start()

    def on_alarm(self, _alarm: Alarm) -> None:
        """Have a report made of what led to an alarm; returns at once."""
        now = time.monotonic()
        if self._is_for_alarms and now - self._alarm_at_s >= _ALARM_PAUSE_S:
            self._alarm_at_s = now
            self._ask("alarm")

    def close(self) -> None:
        """Make no more."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._every_s):
            self._ask("scheduled")

    def _ask(self, why: str) -> None:
        assert self._source is not None
        reference, current = self._source()
        if not len(current):
            return
        try:
            self._maker.request(why, reference, current).add_done_callback(_say_failure)
        except ReportError as error:
            log.warning("no report (%s): %s", why, error)


def _say_failure(done: Future[Path]) -> None:
    error = None if done.cancelled() else done.exception()
    if isinstance(error, ReportError):
        log.warning("a report failed: %s", error)
    elif error is not None:
        log.error("a report failed", exc_info=error)
