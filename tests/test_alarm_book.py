"""The alarms that there are: whatever order their beginnings and ends are read in."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from monitor.alarms.book import AlarmBook
from repstream.messages.messages import Alarm, AlarmCause


def alarm(number: int, cause: AlarmCause = "rotated", scope: str = "device", ended: float | None = None) -> Alarm:
    return Alarm(
        id=f"w{number}/{cause}/1",
        scope=scope,
        device=f"w{number}" if scope == "device" else "",
        cause=cause,
        axes=[],
        text="It changed.",
        advice="Look.",
        since=float(number),
        raised=number + 1.0,
        certainty=0.9,
        model="spar/1",
        ended=ended,
    )


def book_of(*alarms: Alarm) -> AlarmBook:
    book = AlarmBook()
    for each in alarms:
        book.add(each)
    return book


def test_an_alarm_is_on_from_its_beginning_to_its_end() -> None:
    book = book_of(alarm(1))
    assert book.open() == book.all() == [alarm(1)]
    book.add(alarm(1, ended=9.0))
    assert book.open() == []
    assert book.all() == [alarm(1, ended=9.0)]


def test_those_that_are_on_come_first_and_of_each_the_newest() -> None:
    book = book_of(alarm(1), alarm(3), alarm(2, ended=7.0), alarm(4, ended=8.0), alarm(2, ended=7.0))
    assert book.all() == [alarm(3), alarm(1), alarm(4, ended=8.0), alarm(2, ended=7.0)]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
def test_what_is_read_twice_or_out_of_order_is_there_once_and_an_end_is_final(told: list[tuple[int, bool]]) -> None:
    book = book_of(*(alarm(n, ended=50.0 + n if over else None) for n, over in told))
    over = {n for n, is_over in told if is_over}
    begun = {n for n, is_over in told if not is_over} - over
    assert {a.id for a in book.open()} == {alarm(n).id for n in begun}
    assert sorted(a.id for a in book.all()) == sorted(alarm(n).id for n in begun | over)


def test_they_are_counted_by_cause_and_scope() -> None:
    told = [alarm(1), alarm(2), alarm(3, "stuck"), alarm(4, "rotated", "all"), alarm(5, ended=9.0)]
    counts = book_of(*told).counts()
    assert dict(counts) == {("rotated", "device"): 2, ("stuck", "device"): 1, ("rotated", "all"): 1}
    assert counts["noise", "device"] == 0


def test_five_hundred_that_are_over_are_kept_and_all_that_are_on() -> None:
    ended = [msgspec.structs.replace(alarm(n), ended=n + 2.0) for n in range(1200)]
    book = book_of(*ended, *(alarm(n) for n in range(2000, 2600)))
    assert len(book.open()) == 600
    assert book.all()[600:] == ended[:699:-1]
