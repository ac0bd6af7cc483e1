"""Where a monitor stands in its topics, and from where each partition is to be read again.

A committed offset carries a text that says where the remembered windows begin; of predictions also where what is
known of the devices is stored (`repstream.kafka.state_topic`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from monitor.alarms.devices import DeviceWatch
from repstream.errors import MessageError
from repstream.kafka import state_topic
from repstream.kafka.connection import (
    KafkaConnection,
    KafkaConsumer,
    OffsetAndMetadata,
    TopicPartition,
    TransactionalProducer,
)
from repstream.kafka.state_topic import Pointer, topic_of
from repstream.messages.topics import PREDICTIONS

log = logging.getLogger(__name__)


class _CommitText(msgspec.Struct, omit_defaults=True):
    """The text that goes with a committed offset: from where the windows can be read again.

    Of predictions it also holds the fields of a `Pointer` to what is known of the devices.
    """

    read_from: int
    offset: int | None = None
    at: int | None = None
    id: str | None = None
    chunks: int | None = None
    v: int = 1


_decoder = msgspec.json.Decoder(_CommitText)


@dataclass
class Place:
    """One partition: how far it is committed, and what is known of its devices.

    Attributes
    ----------
    committed : int
        Messages before this were counted, and their alarms told, in an earlier life.
    watch : DeviceWatch or None
        None for labels, and where there are no alarms about single devices.
    watched_from : int
        Messages before this are part of the devices' state that was read back.
    pointer : Pointer or None
        Where that state is stored.
    firsts : dict of int to int
        Of each remembered monitoring window the offset of its first message.
    """

    committed: int
    watch: DeviceWatch | None = None
    watched_from: int = 0
    pointer: Pointer | None = None
    firsts: dict[int, int] = field(default_factory=dict)

    def forget_before(self, horizon_s: float, window_s: float) -> None:
        """Forget where monitoring windows of a length began that lie before an event time."""
        for number in [n for n in self.firsts if n * window_s < horizon_s]:
            del self.firsts[number]

    def commit(self, position: int) -> OffsetAndMetadata:
        """Return what is committed when reading goes on at `position`."""
        text = _CommitText(min([*self.firsts.values(), position]))
        if self.pointer is not None:
            p = self.pointer
            text = _CommitText(text.read_from, p.offset, p.at, p.id, p.chunks)
        # While the windows are being read again, what was committed stays so.
        return OffsetAndMetadata(max(position, self.committed), msgspec.json.encode(text).decode(), -1)


class Places:
    """The places of all partitions that a monitor commits.

    Parameters
    ----------
    connection : KafkaConnection
    group : str
        Under which offsets are committed and the devices' state is stored.
    new_watch : callable or None
        Makes the watch of a partition's devices; None where there are no alarms about single devices.
    """

    def __init__(
        self, connection: KafkaConnection, group: str, new_watch: Callable[[], DeviceWatch] | None = None
    ) -> None:
        self._connection = connection
        self._new_watch = new_watch
        self._places: dict[TopicPartition, Place] = {}
        self.state_topic = topic_of(group)

    def __getitem__(self, tp: TopicPartition) -> Place:
        return self._places[tp]

    def partitions(self) -> set[TopicPartition]:
        """Return all partitions."""
        return set(self._places)

    def watches(self) -> list[DeviceWatch]:
        """Return what watches the devices, one per partition of predictions."""
        return [place.watch for place in self._places.values() if place.watch is not None]

    def restore(self, consumer: KafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        """Read back what was committed, and seek to where the windows began or the devices' state, whichever is first.

        Parameters
        ----------
        consumer : KafkaConsumer
            Assigned to these partitions already, and perhaps to others.
        """
        commits = {tp: consumer.committed(tp, metadata=True) for tp in partitions}
        self._places = {tp: Place(commit.offset if commit else 0) for tp, commit in commits.items()}
        if self._new_watch is not None:
            self._restore_watches(self._new_watch, {tp: c for tp, c in commits.items() if tp.topic == PREDICTIONS})
        for tp, commit in commits.items():
            place = self._places[tp]
            if commit is None:
                consumer.seek_to_beginning(tp)
                continue
            try:
                start = _decoder.decode(commit.metadata or "").read_from
            except msgspec.MsgspecError:
                log.warning("%s: offset %d was committed without our text; windows begin there", tp, commit.offset)
                start = commit.offset
            consumer.seek(tp, min(start, place.watched_from) if place.watch else start)

    def _restore_watches(self, new_watch: Callable[[], DeviceWatch], commits: Mapping[TopicPartition, Any]) -> None:
        """Read back what was known of the devices."""
        texts = {tp: (commit.offset, commit.metadata or "") if commit else None for tp, commit in commits.items()}
        for tp, stored in state_topic.read(self._connection, self.state_topic, texts).items():
            place = self._places[tp]
            place.watch = new_watch()
            place.watched_from, place.pointer = stored.position, stored.pointer
            if stored.data is not None:
                try:
                    place.watch.load(stored.data)
                except MessageError as error:
                    log.warning("%s: %s; devices are watched anew from offset %d", tp, error, place.committed)
                    place.watched_from, place.pointer = place.committed, None

    def is_reading_again(self, consumer: KafkaConsumer) -> bool:
        """Tell whether messages come that were counted and told in an earlier life."""
        return any(consumer.position(tp) < place.committed for tp, place in self._places.items())

    def store_watches(self, consumer: KafkaConsumer, producer: TransactionalProducer) -> None:
        """Write down what is known of devices, of the partitions that are not being read again."""
        for tp, place in self._places.items():
            position = consumer.position(tp)
            if place.watch is not None and position >= place.committed:
                data = place.watch.dump()
                place.pointer = state_topic.write(producer, self.state_topic, tp.partition, data, position)

    def offsets(self, consumer: KafkaConsumer) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return what is to be committed now."""
        return {tp: place.commit(consumer.position(tp)) for tp, place in self._places.items()}

    def note_commit(self, consumer: KafkaConsumer) -> None:
        """Note that `offsets` have been committed."""
        for tp, place in self._places.items():
            place.committed = max(place.committed, consumer.position(tp))


def lag_of(consumer: KafkaConsumer) -> dict[str, int]:
    """Ask how many messages of each topic wait behind where a consumer stands."""
    # Asked for: fetches, which tell it otherwise, may hang.
    lag: Counter[str] = Counter()
    for tp, end in consumer.end_offsets(list(consumer.assignment())).items():
        lag[tp.topic] += max(end - consumer.position(tp), 0)
    return dict(lag)
