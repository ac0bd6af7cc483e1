"""What the services' consumers have in common from joining their group to leaving it.

A service lives until Kafka fails it, and begins a new life then (`repstream.kafka.connection.keep_working`). In each one
it joins its group, is given partitions, has some taken away, is behind in what it has, and leaves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.admin import MemberToRemove
from kafka.structs import ConsumerGroupMetadata

from repstream.errors import BrokerUnavailableError
from repstream.kafka.clients import KafkaConsumer
from repstream.kafka.connection import KafkaConnection, translated

__all__ = [
    "Assignment",
    "ConsumerGroupMetadata",
    "Lag",
    "OrphanWatch",
    "leave_group",
    "membership_of",
    "unassigned_partitions",
]

log = logging.getLogger(__name__)


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes that a consumer was given other partitions; its loop acts on it between two polls.

    Attributes
    ----------
    has_changed : bool
        Set while polling; taken back by whoever has acted on it.
    """

    def __init__(self) -> None:
        self.has_changed = False

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Note it; called by the client."""
        self.has_changed = True

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Note it; called by the client."""
        self.has_changed = True


class OrphanWatch:
    """Looks for partitions that a settled group has given to none of its members.

    Nobody would ever mend that but a member that joins anew. A static one has to leave for that: coming back, it would
    get the assignment that it had, be it nothing because the group's leader had not heard of the partitions yet (a
    broker just started).

    Parameters
    ----------
    topics : sequence of str
        What the group reads.
    now_s : float
        On the clock that `look` is told.
    instance : str or None
        Our name in the group, where it is static.
    """

    def __init__(
        self, connection: KafkaConnection, group: str, topics: Sequence[str], now_s: float, instance: str | None = None
    ) -> None:
        self._connection = connection
        self._group = group
        self._topics = topics
        self._instance = instance
        self._looked_s = now_s
        self._found: frozenset[TopicPartition] = frozenset()

    def look(self, now_s: float, every_s: float) -> bool:
        """Look, where that was `every_s` ago; it takes a tenth of a second.

        Returns
        -------
        bool
            Whether it looked and found none.

        Raises
        ------
        BrokerUnavailableError
            Where nobody has a partition, twice in a row; a static member has left the group then.
        """
        if now_s - self._looked_s < every_s:
            return False
        self._looked_s = now_s
        before, self._found = self._found, unassigned_partitions(self._connection, self._group, self._topics)
        if for_good := sorted(before & self._found):
            if self._instance is not None:
                leave_group(self._connection, self._group, self._instance)
            names = ", ".join(f"{tp.topic}-{tp.partition}" for tp in for_good)
            raise BrokerUnavailableError(f"{names}: not assigned to any member of group {self._group}")
        return not self._found


class Lag:
    """How many messages a consumer has not processed yet.

    Parameters
    ----------
    ask_after_s : float
        Fetches tell where a partition ends. Where none brought anything for so long, they may hang, and Kafka is asked.
        0 asks each time, and believes no fetch: one that is paused tells nothing, and of topics that are written in
        transactions each tells an end that nobody can read to yet.
    """

    def __init__(self, ask_after_s: float = 0.0) -> None:
        self._ask_after_s = ask_after_s
        self._ends: dict[TopicPartition, int] = {}
        self._known_at_s: dict[TopicPartition, float] = {}

    def fetched(self, partitions: Iterable[TopicPartition], now_s: float) -> None:
        """Note that a poll brought messages of these partitions."""
        self._known_at_s.update(dict.fromkeys(partitions, now_s))

    def behind(
        self, consumer: KafkaConsumer, positions: Mapping[TopicPartition, int], now_s: float
    ) -> dict[TopicPartition, int]:
        """Count the messages from each position to its partition's end.

        Parameters
        ----------
        positions : mapping
            Of each partition that is the consumer's, the offset of the first message that is not processed.
        """
        for tp in self._known_at_s.keys() - positions.keys():
            del self._known_at_s[tp]
            self._ends.pop(tp, None)
        quiet = [tp for tp in positions if now_s - self._known_at_s.get(tp, -math.inf) >= self._ask_after_s]
        if quiet:
            self._ends.update(consumer.end_offsets(quiet))
            self.fetched(quiet, now_s)
        return {tp: max(self._end(consumer, tp) - position, 0) for tp, position in positions.items()}

    def _end(self, consumer: KafkaConsumer, tp: TopicPartition) -> int:
        asked = self._ends.get(tp, 0)
        return max(asked, consumer.highwater(tp) or 0) if self._ask_after_s else asked


def membership_of(consumer: KafkaConsumer) -> ConsumerGroupMetadata:
    """Return who a consumer is in its group: what Kafka fences its commits by.

    Raises
    ------
    BrokerUnavailableError
        Where it has no place in the group at this moment.
    """
    membership = consumer.group_metadata()
    if membership.generation_id < 0 or not membership.member_id:
        raise BrokerUnavailableError(f"no longer a member of group {membership.group_id}")
    return membership


def unassigned_partitions(connection: KafkaConnection, group: str, topics: Sequence[str]) -> frozenset[TopicPartition]:
    """Partitions of topics that no member of a settled group has.

    Returns
    -------
    set of TopicPartition
        Empty also while the group is rebalancing.
    """
    with translated(f"looking at group {group}"):
        admin = connection.admin()
        try:
            described = admin.describe_groups([group])[group]
            # A member whose client has stopped beating without knowing leaves an empty group behind.
            if described["group_state"] not in ("Stable", "Empty"):
                return frozenset()
            everything = {
                TopicPartition(t["name"], p["partition_index"])
                for t in admin.describe_topics(list(topics))
                for p in t["partitions"]
            }
        finally:
            admin.close()
    held = {
        TopicPartition(assigned["topic"], number)
        for member in described["members"]
        for assigned in member["member_assignment"]["assigned_partitions"]
        for number in assigned["partitions"]
    }
    return frozenset(everything - held)


def leave_group(connection: KafkaConnection, group: str, instance: str) -> None:
    """Have a static member leave at once: its closing alone would hold its partitions until time-out."""
    with translated(f"leaving group {group}"):
        admin = connection.admin()
        try:
            admin.remove_group_members(group, [MemberToRemove(group_instance_id=instance)])
        finally:
            admin.close()
    log.info("left group %s", group)
