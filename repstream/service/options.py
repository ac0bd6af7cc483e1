"""Options that several commands share, each with its unit, default and environment variable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from repstream.errors import SettingsError

BootstrapServers = Annotated[
    str,
    typer.Option(
        help="Kafka's address, HOST:PORT, several separated by commas. Credentials come from "
        "REPSTREAM_KAFKA_SECURITY_PROTOCOL, …_SASL_MECHANISM, …_SASL_USERNAME, …_SASL_PASSWORD, …_SSL_CAFILE.",
        envvar="REPSTREAM_BOOTSTRAP_SERVERS",
    ),
]
DEFAULT_BOOTSTRAP_SERVERS = "127.0.0.1:9092"

RecordingNames = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…",
        help="Recordings: CSV or Parquet files, folders of them, or names of the catalogue; a pattern such as "
        "'spar/s08-*' takes all that fit.",
        show_default=False,
    ),
]

ModelName = Annotated[
    str,
    typer.Option(
        "--model", help="The model as NAME/VERSION, or NAME for its newest version.", envvar="REPSTREAM_MODEL"
    ),
]
DEFAULT_MODEL = "spar"

ModelsDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of models. A pickled model in it is trusted to run code. "
        "Default: one's own (models/ of a checkout, else ~/.local/share/repstream/models) and those of this release.",
        envvar="REPSTREAM_MODELS",
        show_default=False,
    ),
]

JsonOutput = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

Hop = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Samples between the starts of two windows, at 50 Hz. Default: the model's.",
        envvar="REPSTREAM_HOP",
        show_default=False,
    ),
]

Partitions = Annotated[
    int, typer.Option(min=1, help="Number of partitions of topics that this creates.", envvar="REPSTREAM_PARTITIONS")
]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Serve /metrics, /healthz and /livez on this port; 0 chooses a free one. Default: off.",
        envvar="REPSTREAM_METRICS_PORT",
        show_default=False,
    ),
]
MetricsHost = Annotated[str, typer.Option(help="Address to serve /metrics on.", envvar="REPSTREAM_METRICS_HOST")]


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Let a setting that the block refuses end the command as any other wrong usage does: with exit code 2."""
    try:
        yield
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
