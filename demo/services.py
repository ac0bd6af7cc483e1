"""The demo's services: Kafka, and child processes that the environment does not configure."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from demo.settings import GROUP, LATENESS_S, MONITOR_GROUP, DemoSettings
from demo.verdicts import EVERY_S
from monitor.settings import PAGE_PORT
from producer.options import speed_text
from producer.settings import AS_FAST_AS_POSSIBLE
from repstream.broker.broker import EmbeddedBroker
from repstream.processes.children import Child
from repstream.processes.ports import HOST, free_port
from repstream.recognition.card import find_model
from repstream.recognition.model import Model, load_model

# What the demo's own options decide must not be decided again by the environment.
_KEPT_ENVIRONMENT = ("REPSTREAM_LOG_LEVEL",)
# The producer sees its last packets through for up to 30 s when it is stopped.
_PRODUCER_GRACE_S, _PREDICTOR_GRACE_S, _MONITOR_GRACE_S = 35.0, 15.0, 10.0

_Service = TypeVar("_Service", Child, EmbeddedBroker)


class ServiceStack(ExitStack):
    """What a demo has started: ended in reverse order, but where the demo fails, at once.

    Then there is nothing left to deliver, or nobody to deliver it to, and who waits for a Kafka that is gone or hangs
    does so for long.
    """

    def __init__(self) -> None:
        super().__init__()
        self._services: list[Child | EmbeddedBroker] = []

    def enter_service(self, service: _Service) -> _Service:
        """Have a service ended with the stack."""
        self.enter_context(service)
        self._services.append(service)
        self.push(self._failed)  # the last to be pushed is called first
        return service

    def _failed(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        if kind is not None:
            for service in self._services:
                service.kill()


@dataclass(frozen=True)
class Services:
    """What runs before the producer begins.

    Attributes
    ----------
    model : Future of Model
        Being loaded in this process, without what predicts.
    metrics_port : int
        The predictor's.
    page_port : int
        The monitor's.
    logs : Path
        Folder of the services' logs; it goes with them.
    """

    broker: EmbeddedBroker
    predictor: Child
    monitor: Child
    model: Future[Model]
    metrics_port: int
    page_port: int
    logs: Path

    @property
    def page(self) -> str:
        """Address of the live page."""
        return f"http://{HOST}:{self.page_port}/"


def start_services(settings: DemoSettings, stack: ServiceStack, say: Callable[[str], None]) -> Services:
    """Start Kafka, the predictor and the monitor, side by side; `stack` ends them, the monitor first.

    The predictor and the monitor wait for their Kafka, and this process for scikit-learn.

    Raises
    ------
    RepstreamError
        Where there is no such model, or Kafka cannot be started.
    """
    model_id = "/".join(find_model(settings.model, settings.models_dir).parts[-2:])
    # Only a folder that the user named is named to the services: they trust it with pickles, too.
    trusted = ["--models-dir", str(settings.models_dir.resolve())] if settings.models_dir else []
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="repstream-demo-")))
    kafka_port = free_port()
    metrics_port = free_port(other_than=kafka_port)
    common = ["--bootstrap-servers", f"{HOST}:{kafka_port}", "--model", model_id, *trusted]
    say(f"starting the predictor, model {model_id}")
    arguments = [*common, "--group", GROUP, "--lateness", str(LATENESS_S), "--metrics-port", str(metrics_port)]
    predictor = stack.enter_service(start("predict", arguments, logs / "predictor.log", _PREDICTOR_GRACE_S, logs))
    model = stack.enter_context(ThreadPoolExecutor(1)).submit(load_model, model_id, settings.models_dir, predicts=False)
    broker = stack.enter_service(EmbeddedBroker.start(port=kafka_port, progress=say))
    stack.callback(predictor.stop)  # while there is a Kafka to leave in order
    page_port = settings.port or _page_port(settings.port, kafka_port, metrics_port)
    arguments = [*common, "--group", MONITOR_GROUP, "--predictor-group", GROUP, "--port", str(page_port)]
    arguments += ["--every", str(EVERY_S), "--reports", str(logs / "reports")]
    monitor = stack.enter_service(start("monitor", arguments, logs / "monitor.log", _MONITOR_GRACE_S, logs))
    stack.callback(monitor.stop)
    return Services(broker, predictor, monitor, model, metrics_port, page_port, logs)


def start_producer(services: Services, settings: DemoSettings, names: Sequence[str], stack: ServiceStack) -> Child:
    """Start the replay of recordings; `stack` ends it."""
    arguments = ["--bootstrap-servers", services.broker.bootstrap_servers, *_producer_arguments(settings), "--", *names]
    log = services.logs / "producer.log"
    return stack.enter_service(start("produce", arguments, log, _PRODUCER_GRACE_S))


def start(command: str, arguments: Sequence[str], log: Path, grace_s: float, remove: Path | None = None) -> Child:
    """Start ``repstream COMMAND …``; parameters as of `Child`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REPSTREAM_") or name in _KEPT_ENVIRONMENT
    }
    return Child(command, arguments, log, grace_s, remove, environment)


def _page_port(wanted: int | None, *taken: int) -> int:
    """Choose the usual one, or a free port where somebody has it or 0 was asked for."""
    if wanted is None:
        with socket.socket() as asking, contextlib.suppress(OSError):
            asking.bind((HOST, PAGE_PORT))
            return PAGE_PORT
    port = free_port()
    while port in taken:
        port = free_port()
    return port


def _producer_arguments(settings: DemoSettings) -> list[str]:
    producer = settings.producer
    arguments = ["--speed", speed_text(producer.speed), "--seed", str(producer.seed), "--quiet", "--json"]
    if producer.speed != AS_FAST_AS_POSSIBLE:
        arguments += ["--controllable"]
    if producer.wearers is not None:
        arguments += ["--wearers", str(producer.wearers)]
    if producer.duration_s is not None:
        arguments += ["--duration", repr(producer.duration_s)]
    for spec in settings.inject:
        arguments += ["--inject", spec]
    return arguments
