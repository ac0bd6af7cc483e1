"""A consumer's life: what nobody is assigned, and how far it is behind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from repstream.errors import BrokerUnavailableError
from repstream.kafka import lives
from repstream.kafka.connection import KafkaConnection, TopicPartition
from repstream.kafka.lives import Assignment, Lag, OrphanWatch

A, B = TopicPartition("samples", 0), TopicPartition("samples", 1)


def test_a_change_of_the_assignment_is_noted_until_somebody_has_acted_on_it() -> None:
    assignment = Assignment()
    assert not assignment.has_changed
    for change in (assignment.on_partitions_revoked, assignment.on_partitions_assigned):
        change([A])
        assert assignment.has_changed
        assignment.has_changed = False


class Group:
    """What a group's partitions without a member are, look by look, and who has left it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: Sequence[TopicPartition]) -> None:
        looks = iter(found)
        self.left: list[str] = []
        monkeypatch.setattr(lives, "unassigned_partitions", lambda *_: frozenset(next(looks)))
        monkeypatch.setattr(lives, "leave_group", lambda _connection, _group, instance: self.left.append(instance))

    @staticmethod
    def watch(instance: str | None = None) -> OrphanWatch:
        return OrphanWatch(KafkaConnection("nowhere:1"), "group", ["samples"], 0.0, instance)


def test_what_nobody_is_assigned_twice_in_a_row_ends_a_life(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, [A], [B], [], [B], [A, B])
    watch = group.watch("one")
    assert [watch.look(now, 5.0) for now in (5.0, 10.0, 15.0, 20.0)] == [False, False, True, False]
    with pytest.raises(BrokerUnavailableError, match=r"^samples-1: not assigned to any member of group group$"):
        watch.look(25.0, 5.0)
    assert group.left == ["one"], "a static member would get the same assignment again"


def test_a_member_without_a_name_of_its_own_has_nothing_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, [A], [A])
    watch = group.watch()
    assert not watch.look(5.0, 5.0)
    with pytest.raises(BrokerUnavailableError):
        watch.look(10.0, 5.0)
    assert group.left == []


def test_nobody_looks_before_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Group(monkeypatch, []).watch()  # more than one look would fail
    assert [watch.look(now, 5.0) for now in (1.0, 4.9, 5.0, 9.9)] == [False, False, True, False]


class Consumer:
    """Knows where partitions end: as fetches told, and as Kafka says when it is asked."""

    def __init__(self) -> None:
        self.fetched: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.asked: list[list[TopicPartition]] = []

    def highwater(self, tp: TopicPartition) -> int | None:
        return self.fetched.get(tp)

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked.append(sorted(partitions))
        return {tp: self.ends[tp] for tp in partitions}


def test_kafka_is_asked_where_fetches_have_brought_nothing_for_long() -> None:
    consumer, lag = Consumer(), Lag(ask_after_s=5.0)
    consumer.ends = {A: 10, B: 20}
    assert lag.behind(consumer, {A: 4, B: 20}, 100.0) == {A: 6, B: 0}
    consumer.fetched = {A: 12}
    lag.fetched([A], 103.0)
    consumer.ends = {A: 15, B: 30}
    assert lag.behind(consumer, {A: 4, B: 20}, 104.0) == {A: 8, B: 0}
    assert lag.behind(consumer, {A: 4, B: 20}, 105.0) == {A: 8, B: 10}
    assert lag.behind(consumer, {A: 4, B: 20}, 108.0) == {A: 11, B: 10}
    assert consumer.asked == [[A, B], [B], [A]]


def test_where_fetches_are_not_believed_kafka_is_asked_each_time() -> None:
    consumer, lag = Consumer(), Lag()
    consumer.fetched = {A: 99}
    for end in (10, 12):
        consumer.ends = {A: end}
        assert lag.behind(consumer, {A: 4}, 1.0) == {A: end - 4}


def test_of_a_partition_that_was_another_s_meanwhile_kafka_is_asked_anew() -> None:
    consumer, lag = Consumer(), Lag(ask_after_s=5.0)
    consumer.ends = {A: 10, B: 20}
    lag.behind(consumer, {A: 0, B: 0}, 1.0)
    assert lag.behind(consumer, {B: 0}, 2.0) == {B: 20}
    lag.behind(consumer, {A: 0, B: 0}, 3.0)
    assert consumer.asked == [[A, B], [A]]
