"""The command ``repstream``: options and environment in, settings out; the only reader of either.

Each command imports what it runs when it runs, so that ``--help`` is quick and the producer's image
needs no scikit-learn.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

# Before anything can import a library that would report home.
os.environ.setdefault("DO_NOT_TRACK", "1")

import typer

from cli import broker, recordings, splits, stack
from cli.lazy import group_of
from repstream import __version__
from repstream.errors import RepstreamError
from repstream.shipped import shipped

# Where each command is defined: beside what it runs. An image holds its own service's alone.
_COMMANDS = {
    "features": "cli.offline",
    "score": "cli.offline",
    "train": "training.command",
    "calibrate": "training.calibrate_command",
    "evaluate": "training.command",
    "demo": "demo.command",
    "produce": "producer.command",
    "predict": "predictor.command",
    "verify": "predictor.verify_command",
    "monitor": "monitor.command",
    "store": "store.command",
    "predictions": "store.query_command",
    "topics": "cli.topics",
    "bench": "bench.command",
}

app = typer.Typer(
    name="repstream",
    cls=group_of(_COMMANDS),
    help="Live exercise recognition from wearable motion sensors, on Apache Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recordings.app.command("split")(splits.split)
app.add_typer(recordings.app, name="recordings")
app.add_typer(broker.app, name="broker")
if shipped("docker-compose.yml").is_file():  # not in an image
    app.add_typer(stack.app, name="stack")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    log_level: Annotated[
        str,
        typer.Option(help="Lowest severity to log: debug, info, warning or error.", envvar="REPSTREAM_LOG_LEVEL"),
    ] = "info",
) -> None:
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    if log_level.lower() not in levels:
        raise typer.BadParameter(f"{log_level!r} is not one of {', '.join(levels)}", param_hint="--log-level")
    logging.basicConfig(
        level=levels[log_level.lower()], format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # The Kafka client logs every reconnect; what matters of it reaches the user through our errors.
    # Its own debug lines hold credentials.
    logging.getLogger("kafka").setLevel(logging.CRITICAL if log_level.lower() != "debug" else logging.INFO)


def main() -> None:
    """Run the command line; expected failures are one line and exit code 1."""
    try:
        app(prog_name="repstream")
    except RepstreamError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
