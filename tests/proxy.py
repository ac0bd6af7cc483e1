"""The network between Kafka and its clients, as a TCP proxy that can be cut, slowed down and reset while it is used."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

from repstream.processes.ports import HOST, free_port

_CHUNK_BYTES = 65_536


class _Way:
    """One direction, closed for as long as anybody has cut it."""

    def __init__(self) -> None:
        self._cuts = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    def cut(self) -> None:
        self._cuts += 1
        self.is_open.clear()

    def heal(self) -> None:
        self._cuts -= 1
        if not self._cuts:
            self.is_open.set()


class Network:
    """Passes on what comes in at `address` to a port of this machine, once `lead_to` has told which.

    Parameters
    ----------
    delay_s : float
        How long each piece takes each way, s.

    Attributes
    ----------
    address : str
        ``HOST:PORT`` for clients.
    """

    def __init__(self, delay_s: float = 0.0) -> None:
        self._port = 0
        self._delay_s = delay_s
        self._clients: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._to_kafka, self._from_kafka = _Way(), _Way()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        port = free_port()
        self._server: asyncio.Server = self._wait(asyncio.start_server(self._serve, HOST, port))
        self.address = f"{HOST}:{port}"

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _do(self, *acts: Callable[[], object]) -> None:
        async def act() -> None:
            for each in acts:
                each()

        self._wait(act())

    def lead_to(self, port: int) -> None:
        """Connect clients to a port of 127.0.0.1 from now on."""
        self._port = port

    # ------------------------------------------------------------------------------- from the test

    @contextlib.contextmanager
    def cut(self, *, answers_alone: bool = False, loses: bool = False) -> Iterator[None]:
        """Let nothing pass while the block runs; nobody is told.

        Parameters
        ----------
        answers_alone : bool
            Whether what Kafka is sent still reaches it.
        loses : bool
            Whether what was held back never arrives, and connections have to be made anew. Otherwise it comes late.
        """
        ways = [self._from_kafka] if answers_alone else [self._to_kafka, self._from_kafka]
        self._do(*(way.cut for way in ways))
        try:
            yield
        finally:
            self._do(*([self._reset] if loses else []), *(way.heal for way in ways))

    @contextlib.contextmanager
    def slow(self, delay_s: float) -> Iterator[None]:
        """Hold each piece back for so much longer (s) while the block runs."""
        self._delay_s += delay_s
        try:
            yield
        finally:
            self._delay_s -= delay_s

    def reset(self) -> None:
        """End all connections, at both ends, with what is on its way in them."""
        self._do(self._reset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._server.close, self._reset)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # ----------------------------------------------------------------------------------- in the loop

    def _reset(self) -> None:
        for writer in self._clients:
            _reset(writer)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._clients.add(to_client)
        try:
            await self._to_kafka.is_open.wait()
            from_kafka, to_kafka = await asyncio.open_connection(HOST, self._port)
        except OSError:
            _reset(to_client)  # Kafka is not there
        else:
            self._clients.add(to_kafka)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(from_client, to_kafka, self._to_kafka))
                    both.create_task(self._pass_on(from_kafka, to_client, self._from_kafka))
            finally:
                self._clients.discard(to_kafka)
        finally:
            self._clients.discard(to_client)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: _Way) -> None:
        """Pass one way's bytes on, and their end."""
        with contextlib.suppress(ConnectionError):
            while True:
                piece = await source.read(_CHUNK_BYTES)
                await asyncio.sleep(self._delay_s)
                await way.is_open.wait()
                if not piece:
                    break
                sink.write(piece)
                await sink.drain()
        sink.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset rather than in order."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it may have ended by itself
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
