"""``repstream predict``: the predictor service."""

from __future__ import annotations

from typing import Annotated

import typer

from predictor.settings import PredictorSettings
from repstream.service.options import (
    DEFAULT_BOOTSTRAP_SERVERS,
    DEFAULT_MODEL,
    BootstrapServers,
    Hop,
    MetricsHost,
    MetricsPort,
    ModelName,
    ModelsDir,
    Partitions,
    usage_errors,
)

_DEFAULTS = PredictorSettings()


def predict(
    bootstrap_servers: BootstrapServers = DEFAULT_BOOTSTRAP_SERVERS,
    model: ModelName = DEFAULT_MODEL,
    models_dir: ModelsDir = None,
    hop: Hop = _DEFAULTS.hop,
    group: Annotated[
        str,
        typer.Option(
            help="Consumer group; predictors in the same group share the partitions.", envvar="REPSTREAM_GROUP"
        ),
    ] = _DEFAULTS.group,
    lateness: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="How late a packet may arrive and still be put in order, in seconds of event time.",
            envvar="REPSTREAM_LATENESS",
        ),
    ] = _DEFAULTS.lateness_s,
    idle_after: Annotated[
        float,
        typer.Option(
            min=1.0,
            help="Seconds without packets after which a device's buffer is released.",
            envvar="REPSTREAM_IDLE_AFTER",
        ),
    ] = _DEFAULTS.idle_s,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds between checkpoints; a restart reads the packets since the last one again.",
            envvar="REPSTREAM_CHECKPOINT_EVERY",
        ),
    ] = _DEFAULTS.checkpoint_s,
    batch_packets: Annotated[
        int, typer.Option(min=1, help="Largest number of packets per transaction.", envvar="REPSTREAM_BATCH_PACKETS")
    ] = _DEFAULTS.batch_packets,
    partitions: Partitions = _DEFAULTS.partitions,
    instance: Annotated[
        str | None,
        typer.Option(
            help="Name of this predictor in its group; keep it over restarts. Default: the host's name and a free number.",
            envvar="REPSTREAM_INSTANCE",
        ),
    ] = _DEFAULTS.instance,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Predict exercises from the packets on samples, exactly once, until SIGTERM or Ctrl-C."""
    from repstream.service.running import metrics_server, stop_on_signals

    stopping = stop_on_signals()  # before the seconds that the imports take

    from prometheus_client import CollectorRegistry

    from predictor.service import Predictor
    from repstream.kafka.connection import KafkaConnection
    from repstream.recognition.model import load_model
    from repstream.service.http import Heartbeat

    with usage_errors():
        settings = PredictorSettings(
            group=group,
            hop=hop,
            lateness_s=lateness,
            batch_packets=batch_packets,
            checkpoint_s=checkpoint_every,
            idle_s=idle_after,
            instance=instance,
            partitions=partitions,
        )
    loaded = load_model(model, models_dir)
    registry = CollectorRegistry()
    pulse = Heartbeat(stopping.is_set)
    predictor = Predictor(loaded, KafkaConnection.from_environment(bootstrap_servers), settings, registry, pulse)
    with metrics_server(registry, metrics_host, metrics_port, predictor.health, pulse):
        predictor.run()
