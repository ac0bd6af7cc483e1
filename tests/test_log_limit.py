"""A flood of one kind of warnings: some are shown, all are counted, and everything else can still be read."""

from __future__ import annotations

import logging

import pytest

from repstream.service.log_limit import LimitedLog

log = logging.getLogger("repstream.tests.flood")


def test_of_a_flood_the_first_are_shown_and_one_line_says_how_many_were_not(caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000.0
    limited = LimitedLog(log, "dead letters", most=3, span_s=60.0, clock=lambda: now)
    for i in range(10):
        limited.warning("letter %d", i)
    assert caplog.messages == ["letter 0", "letter 1", "letter 2"]
    now += 59.9
    limited.flush()
    assert len(caplog.messages) == 3
    now += 0.1
    limited.flush()
    limited.flush()
    assert caplog.messages[3:] == ["7 more dead letters within 60 s are not shown"]
    limited.warning("letter %d", 10)
    assert caplog.messages[4:] == ["letter 10"]


def test_what_comes_now_and_then_is_shown_as_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000.0
    limited = LimitedLog(log, "dead letters", most=3, span_s=60.0, clock=lambda: now)
    for i in range(30):
        limited.warning("letter %d", i)
        now += 30.0
    assert caplog.messages == [f"letter {i}" for i in range(30)]


def test_a_flood_that_goes_on_is_summed_up_span_by_span(caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000.0
    limited = LimitedLog(log, "dead letters", most=3, span_s=60.0, clock=lambda: now)
    for i in range(3_000):
        limited.warning("letter %d", i)
        now += 0.125
    now += 60.0
    limited.flush()
    shown = [m for m in caplog.messages if m.startswith("letter")]
    told = sum(int(m.split()[0]) for m in caplog.messages if "not shown" in m)
    assert len(shown) == 3 * 7
    assert len(shown) + told == 3_000
