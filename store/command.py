"""``repstream store``: the service that keeps predictions and alarms in a database."""

from __future__ import annotations

from typing import Annotated

import typer

from repstream.service.options import (
    DEFAULT_BOOTSTRAP_SERVERS,
    BootstrapServers,
    MetricsHost,
    MetricsPort,
    usage_errors,
)
from store.settings import SinkSettings

_DEFAULTS = SinkSettings()

StoreUrl = Annotated[
    str,
    typer.Option(
        "--store",
        help="The database: sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE or "
        "mongodb://USER:PASSWORD@HOST/DATABASE. Pass a password by the variable: other users can see a command's options.",
        envvar="REPSTREAM_STORE",
        show_envvar=True,
    ),
]
DEFAULT_STORE = "sqlite:///repstream.db"


def store(
    bootstrap_servers: BootstrapServers = DEFAULT_BOOTSTRAP_SERVERS,
    url: StoreUrl = DEFAULT_STORE,
    group: Annotated[
        str,
        typer.Option(
            help="Consumer group; stores in the same group share the partitions.", envvar="REPSTREAM_STORE_GROUP"
        ),
    ] = _DEFAULTS.group,
    features: Annotated[
        bool,
        typer.Option(
            help="Keep the features of predictions too, about 2 kB each instead of 0.5.",
            envvar="REPSTREAM_STORE_FEATURES",
        ),
    ] = False,
    keep_days: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Days of event time after which rows are deleted; 0 keeps all.",
            envvar="REPSTREAM_KEEP_DAYS",
        ),
    ] = _DEFAULTS.keep_days,
    batch: Annotated[
        int, typer.Option(min=1, help="Messages per write.", envvar="REPSTREAM_STORE_BATCH")
    ] = _DEFAULTS.batch,
    every: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Longest time to wait before writing an incomplete batch, in seconds.",
            envvar="REPSTREAM_STORE_EVERY",
        ),
    ] = _DEFAULTS.every_s,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Keep predictions and alarms in a database, until SIGTERM or Ctrl-C; see repstream predictions."""
    from repstream.service.running import metrics_server, stop_on_signals

    stopping = stop_on_signals()  # before the time that the imports take

    import contextlib

    from prometheus_client import CollectorRegistry

    from repstream.kafka.connection import KafkaConnection
    from repstream.service.http import Heartbeat
    from store.open import open_store
    from store.service import Sink

    registry = CollectorRegistry()
    with usage_errors():
        settings = SinkSettings(group=group, batch=batch, every_s=every, keep_days=keep_days)
    with contextlib.closing(open_store(url, writing=True, features=features)) as opened:
        pulse = Heartbeat(stopping.is_set)
        sink = Sink(opened, KafkaConnection.from_environment(bootstrap_servers), settings, registry, pulse)
        with metrics_server(registry, metrics_host, metrics_port, sink.health, pulse):
            sink.run()
