"""``repstream broker start|stop|status``: the embedded Kafka by itself, in the background."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from repstream.broker.broker import EmbeddedBroker

app = typer.Typer(help="The embedded Kafka by itself, in the background.", no_args_is_help=True)

_DEFAULT_DATA = "~/.local/state/repstream/broker"  # as --help shows it; see default_data_dir

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="REPSTREAM_BROKER_DATA",
        metavar="DIR",
        file_okay=False,
        show_default=_DEFAULT_DATA,
        help="Folder of the broker: its topics, its log, its pid. One broker per folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def default_data_dir() -> Path:
    """Return the user's own broker's folder, ``repstream/broker`` in the user's state folder."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "repstream" / "broker"


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _end_by_sigterm(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _facts(broker: EmbeddedBroker) -> dict[str, Any]:
    return {
        "running": True,
        "bootstrap_servers": broker.bootstrap_servers,
        "port": broker.port,
        "pid": broker.pid,
        "started_at": round(broker.started_at, 3),
        "data": str(broker.data_dir),
        "log": str(broker.log_file),
    }


@app.command()
def start(
    data: DataOption = None,
    port: Annotated[
        int,
        typer.Option(
            envvar="REPSTREAM_BROKER_PORT",
            metavar="N",
            min=0,
            max=65535,
            help="TCP port on 127.0.0.1; 0 chooses a free one.",
        ),
    ] = 0,
    heap_mb: Annotated[
        int,
        typer.Option(
            envvar="REPSTREAM_BROKER_HEAP_MB",
            metavar="MIB",
            min=128,
            help="Largest heap of the JVM, in MiB.",
        ),
    ] = 512,
    as_json: JsonOption = False,
) -> None:
    """Start a broker in the background and print its bootstrap servers once it answers.

    The first time ever Apache Kafka is fetched (45 MB). Topics of an earlier broker on the same folder are
    there again. If one runs on it already, its bootstrap servers are printed.
    """
    from repstream.broker.broker import AlreadyRunningError, EmbeddedBroker

    # SIGTERM before it answers ends what was begun, as Ctrl-C does; afterwards the broker is on its own.
    signal.signal(signal.SIGTERM, _end_by_sigterm)
    already = False
    try:
        broker = EmbeddedBroker.start(data or default_data_dir(), port, progress=_say, heap_mb=heap_mb, detached=True)
    except AlreadyRunningError as error:
        broker, already = error.broker, True
        _say(f"already running (pid {broker.pid}) on {broker.data_dir}")
        if port not in (0, broker.port):
            _say(f"on port {broker.port}, not {port}: to move it, stop it first")
    else:
        _say(f"running (pid {broker.pid}) on {broker.data_dir}; stop it with: repstream broker stop")
    typer.echo(json.dumps({**_facts(broker), "already": already}) if as_json else broker.bootstrap_servers)


@app.command()
def stop(
    data: DataOption = None,
    timeout: Annotated[
        float,
        typer.Option(
            envvar="REPSTREAM_BROKER_STOP_TIMEOUT",
            metavar="S",
            min=0,
            help="Seconds to wait for a clean shutdown before killing it; no acknowledged message is lost either way.",
        ),
    ] = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Stop the broker of a folder and wait for its end; its topics stay. Nothing to stop is no error."""
    from repstream.broker.broker import EmbeddedBroker

    folder = data or default_data_dir()
    broker = EmbeddedBroker.attach(folder)
    if broker is not None:
        broker.stop(timeout)
        _say(f"stopped (pid {broker.pid})")
    else:
        _say(f"no broker runs on {folder}")
    if as_json:
        typer.echo(json.dumps({"running": False, "stopped": broker is not None, "data": str(folder)}))


@app.command()
def status(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Tell whether a broker runs on a folder, and where: exit code 0 if so, 1 if not, and why it ended if untold."""
    from repstream.broker.broker import EmbeddedBroker

    folder = data or default_data_dir()
    broker = EmbeddedBroker.attach(folder)
    if broker is None:
        why = EmbeddedBroker.why_ended(folder)
        text = "not running" if why is None else f"not running; it ended unexpectedly: {why}"
        facts = {"running": False, "data": str(folder)} | ({} if why is None else {"why_ended": why})
        typer.echo(json.dumps(facts) if as_json else text)
        raise typer.Exit(1)
    answers = broker.answers()
    if as_json:
        typer.echo(json.dumps({**_facts(broker), "answers": answers}))
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(broker.started_at))
    doubt = "" if answers else ", but it does not answer"
    typer.echo(f"running at {broker.bootstrap_servers} since {since}, pid {broker.pid}, {broker.data_dir}{doubt}")
