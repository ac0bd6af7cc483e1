"""Reports that nobody asks for: when they are made, and that one that cannot be had troubles nobody."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from monitor.drift.reference import Current, Reference
from monitor.reports.maker import ReportMaker
from monitor.reports.schedule import ReportSchedule
from monitor.settings import ReportSettings
from repstream.errors import SettingsError
from tests.test_alarm_book import alarm
from tests.test_reports import FAILS, SLEEPS, WRITES, made_up, maker, until


def nothing() -> tuple[Reference, Current]:
    known, now = made_up(5)
    rows = np.zeros(5, dtype=np.bool_)
    return known, Current(now.features[rows], now.prediction[rows], now.confidence[rows], now.label[rows])


def reasons(reports: ReportMaker) -> list[str]:
    return [r.reason for r in reports.list()]


def test_an_alarm_has_a_report_made_at_once_and_others_within_a_minute_share_it(tmp_path: Path) -> None:
    with maker(tmp_path, WRITES) as reports:
        schedule = ReportSchedule(reports, 0.0)
        schedule.begin(lambda: made_up(5))
        began = time.monotonic()
        for number in range(5):
            schedule.on_alarm(alarm(number))
        assert time.monotonic() - began < 1.0
        until(lambda: len(reports.list()) > 0)
        # One more of them would be made before this one.
        reports.request("asked", *made_up(5)).result(timeout=20)
        assert reasons(reports) == ["asked", "alarm"]
        schedule.close()


@pytest.mark.slow
def test_at_set_times_reports_are_made_of_what_there_is_then(tmp_path: Path) -> None:
    rows = iter(range(5, 500))
    with maker(tmp_path, WRITES) as reports:
        schedule = ReportSchedule(reports, 0.2)
        schedule.begin(lambda: made_up(next(rows)))
        until(lambda: len(reports.list()) >= 3)
        schedule.close()
        until(lambda: set(reasons(reports)) == {"scheduled"})
    assert next(rows) >= 8


def test_once_closed_it_makes_no_more(tmp_path: Path) -> None:
    with maker(tmp_path, WRITES) as reports:
        schedule = ReportSchedule(reports, 3600.0)
        schedule.begin(lambda: made_up(5))
        threads = [t for t in threading.enumerate() if t.name == "report-schedule"]
        assert len(threads) == 1
        began = time.monotonic()
        schedule.close()
        assert time.monotonic() - began < 2.0
        assert not threads[0].is_alive()
        assert reports.list() == []


def test_without_a_time_only_alarms_have_reports(tmp_path: Path) -> None:
    with maker(tmp_path, WRITES) as reports:
        schedule = ReportSchedule(reports, 0.0)
        schedule.begin(lambda: made_up(5))
        assert not [t for t in threading.enumerate() if t.name == "report-schedule"]
        schedule.close()
        assert reports.list() == []


def test_alarms_have_no_reports_where_none_are_wanted(tmp_path: Path) -> None:
    with maker(tmp_path, WRITES) as reports:
        schedule = ReportSchedule(reports, 0.0, on_alarm=False)
        schedule.begin(lambda: made_up(5))
        schedule.on_alarm(alarm(1))
        # One that was made of the alarm would be there before this one.
        reports.request("asked", *made_up(5)).result(timeout=20)
        assert reasons(reports) == ["asked"]
        schedule.close()


def test_of_nothing_no_report_is_made(tmp_path: Path) -> None:
    with maker(tmp_path, WRITES) as reports:
        schedule = ReportSchedule(reports, 0.05)
        asked = threading.Event()

        def source() -> tuple[Reference, Current]:
            asked.set()
            return nothing()

        schedule.begin(source)
        schedule.on_alarm(alarm(1))
        assert asked.wait(5)
        schedule.close()
        assert reports.list() == []


def test_one_that_fails_or_comes_too_often_is_a_line_in_the_log_and_the_next_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with maker(tmp_path, FAILS) as reports:
        schedule = ReportSchedule(reports, 0.05)
        schedule.begin(lambda: made_up(5))
        until(lambda: caplog.text.count("a report failed: ") >= 2)
        schedule.close()
    assert "Traceback" not in caplog.text
    with maker(tmp_path, SLEEPS, deadline_s=30.0) as reports:
        schedule = ReportSchedule(reports, 0.05)
        schedule.begin(lambda: made_up(5))
        until(lambda: "no report (scheduled): " in caplog.text)
        schedule.close()


@pytest.mark.parametrize("every_s", [-1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(every_s: float) -> None:
    with pytest.raises(SettingsError, match="--report-every must be 0 s or more, not"):
        ReportSettings(every_s=every_s)
