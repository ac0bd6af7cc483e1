"""What every long-running command needs: signals and the metrics port."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from prometheus_client import CollectorRegistry

from repstream.errors import SettingsError
from repstream.service.http import Health, Heartbeat, serve_metrics

log = logging.getLogger(__name__)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; a second one ends the process at once."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


@contextlib.contextmanager
def metrics_server(
    registry: CollectorRegistry, host: str, port: int | None, health: Health, pulse: Heartbeat
) -> Iterator[None]:
    """Serve ``/metrics``, ``/healthz`` and ``/livez`` while the block runs, where a port is given."""
    if port is None:
        yield
        return
    try:
        server = serve_metrics(registry, port, health, pulse.alive, host)
    except OSError as error:
        raise SettingsError(f"port {port} on {host} cannot be used ({error}); choose another --metrics-port") from None
    log.info("metrics on http://%s:%d/metrics", host, server.port)
    try:
        yield
    finally:
        server.close()
