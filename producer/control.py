"""Lets a running replay be paused, sped up and given faults, over the topic `control`.

Only a replay that was asked to (`--controllable`) listens. It says each second how it stands, so
whoever offers the controls knows that there is something to control.
"""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from producer.faults.parse import Fault, parse_fault
from producer.replay.pace import Pace
from repstream.errors import BrokerError, MessageError, SettingsError
from repstream.kafka.connection import KafkaConnection, KafkaConsumer, KafkaProducer, translated
from repstream.kafka.records import reason_of
from repstream.kafka.topics import ensure_topics
from repstream.messages.fields import encode
from repstream.messages.messages import ControlCommand, ProducerStatus, decode_control
from repstream.messages.topics import CONTROL, CONTROL_CONFIG

log = logging.getLogger(__name__)

SPEEDS = (0.1, 100.0)
_STATUS_EVERY_S = 1.0
_POLL_MS = 100
_RETRY_S = 2.0
_MOST_FAULTS = 20
_CLOSE_S = 5.0


@dataclass(frozen=True)
class _LiveFault:
    """A fault that was put in while the replay ran, and how a person asked for it."""

    spec: str
    fault: Fault


class LiveFaults:
    """Faults put into a replay while it runs; those it began with come first and stay.

    Parameters
    ----------
    first : sequence of Fault
    """

    def __init__(self, first: Sequence[Fault]) -> None:
        self._lock = threading.Lock()
        self._first = tuple(first)
        self._live: list[_LiveFault] = []
        self._all = self._first

    def all(self) -> tuple[Fault, ...]:
        """Return all faults in the order in which they were asked for; the same object until that changes."""
        return self._all

    def add(self, fault: str, device: str, from_s: float, seconds: float | None) -> None:
        """Put a fault in.

        Parameters
        ----------
        fault : str
            A kind with its amount.
        device : str
            A device's id, or "" for all.
        from_s : float
            Event time from the start of the replay, s.
        seconds : float, optional
            How long; to the end without it.

        Raises
        ------
        SettingsError
            Saying what is wrong with it.
        """
        end = "" if seconds is None else f"-{from_s + seconds:.3f}"
        where = f"/{glob.escape(device)}" if device else ""
        parsed = parse_fault(f"{fault}@{from_s:.3f}{end}{where}")
        if parsed.kind.shifts_labels:
            raise SettingsError(f"{parsed.kind.name} cannot be put into a running replay; start it with --inject")
        with self._lock:
            if len(self.active_after(from_s)) >= _MOST_FAULTS:
                raise SettingsError(f"there are {_MOST_FAULTS} faults already; end them first")
            self._change([*self._live, _LiveFault(f"{fault} on {device or 'all'}", parsed)])

    def end(self, now_s: float) -> None:
        """End all faults that were put in while it ran; what they did stays done."""
        with self._lock:
            self._change(
                [
                    live
                    if live.fault.end_s <= now_s
                    else replace(live, fault=replace(live.fault, end_s=max(now_s, live.fault.start_s)))
                    for live in self._live
                ]
            )

    def _change(self, live: list[_LiveFault]) -> None:
        self._live = live
        self._all = (*self._first, *(one.fault for one in live))

    def active_after(self, now_s: float) -> list[str]:
        """List the faults put in while it ran that are not over."""
        return [live.spec for live in self._live if live.fault.end_s > now_s]

    def touched(self, devices: Sequence[str]) -> list[str]:
        """List the devices that such a fault was aimed at."""
        return [d for d in devices if any(fnmatch.fnmatchcase(d, live.fault.device) for live in self._live)]


class Control:
    """Follows commands and says how the replay stands, in a thread of its own.

    Parameters
    ----------
    connection : KafkaConnection
    pace : Pace
    faults : LiveFaults
    origin_us : int
        Event time at the start of the replay, µs since the epoch.
    clock : callable
        Epoch seconds.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        pace: Pace,
        faults: LiveFaults,
        origin_us: int,
        clock: Callable[[], float],
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._connection = connection
        self._pace = pace
        self._faults = faults
        self._origin_us = origin_us
        self._clock = clock
        self._answered = self._refused = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def __enter__(self) -> Control:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Say the last word, and stop."""
        self._stopping.set()
        self._thread.join(_CLOSE_S)

    def status(self) -> ProducerStatus:
        """Tell how the replay stands."""
        now_s = self._event_s()
        return ProducerStatus(
            producer=self.name,
            at=self._clock(),
            event_at=self._origin_us / 1e6 + now_s,
            speed=self._pace.speed,
            paused=self._pace.is_paused,
            faults=self._faults.active_after(now_s),
            answered=self._answered,
            refused=self._refused,
            ended=self._stopping.is_set(),
        )

    def _event_s(self) -> float:
        return (self._pace.event_us() - self._origin_us) / 1e6

    def follow(self, command: ControlCommand) -> None:
        """Do what a command says, or note why not."""
        try:
            self._follow(command)
        except SettingsError as error:
            self._refused = str(error)
        else:
            self._refused = ""
        self._answered = command.id

    def _follow(self, command: ControlCommand) -> None:
        if command.action == "pause":
            self._pace.pause()
        elif command.action == "resume":
            self._pace.resume()
        elif command.action == "speed":
            low, high = SPEEDS
            if command.speed is None or not low <= command.speed <= high:
                raise SettingsError(f"the speed must be {low:g} to {high:g}, not {command.speed}")
            self._pace.set_speed(command.speed)
        elif command.action == "clear":
            self._faults.end(self._event_s())
        else:
            if not command.fault:
                raise SettingsError("there is no fault in the command")
            if command.seconds is not None and not 0 < command.seconds <= 86_400:
                raise SettingsError(f"a fault lasts up to a day, not {command.seconds:g} s")
            self._faults.add(command.fault, command.device, self._event_s(), command.seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with translated("listening to commands"):
                    self._listen()
            except BrokerError as error:
                log.warning("%s; trying again in %g s", error, _RETRY_S)
                self._stopping.wait(_RETRY_S)

    def _listen(self) -> None:
        ensure_topics(self._connection, extra={CONTROL: CONTROL_CONFIG})
        consumer = self._connection.consumer(fetch_max_wait_ms=_POLL_MS)
        producer = self._connection.producer(linger_ms=0)
        try:
            partitions = consumer.partitions_of(CONTROL)
            consumer.assign(partitions)
            consumer.seek_to_end(*partitions)
            for tp in partitions:
                consumer.position(tp)  # the end as it is now, before anybody can know of us
            said_s = -_STATUS_EVERY_S
            while not self._stopping.is_set():
                if self._take(consumer) or time.monotonic() - said_s >= _STATUS_EVERY_S:
                    said_s = time.monotonic()
                    self._say(producer)
            self._say(producer)
        finally:
            producer.close(timeout=_CLOSE_S)
            consumer.close(autocommit=False, timeout_ms=2_000)

    def _take(self, consumer: KafkaConsumer) -> bool:
        """Follow what has come for us; whether anything has."""
        is_any = False
        for records in consumer.poll(timeout_ms=_POLL_MS).values():
            for record in records:
                command = self._command(record)
                if command is not None:
                    self.follow(command)
                    is_any = True
        return is_any

    def _command(self, record: Any) -> ControlCommand | None:
        try:
            message = decode_control(record.value or b"")
        except MessageError as error:
            log.warning("%s-%d offset %d: %s", CONTROL, record.partition, record.offset, reason_of(record, error))
            return None
        if isinstance(message, ControlCommand) and message.producer == self.name:
            return message
        return None

    def _say(self, producer: KafkaProducer) -> None:
        producer.send(CONTROL, encode(self.status()), self.name.encode())
