"""``repstream produce``: recordings into Kafka, as wearers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from producer.options import DEFAULT_SPEED, Duration, Inject, Seed, Speed, Wearers, parse_faults, parse_speed
from producer.settings import ProducerSettings
from repstream.service.options import (
    DEFAULT_BOOTSTRAP_SERVERS,
    BootstrapServers,
    JsonOutput,
    MetricsHost,
    MetricsPort,
    Partitions,
    RecordingNames,
    usage_errors,
)

if TYPE_CHECKING:
    from producer.summary import ProduceProgress, ProduceSummary

# Without a terminal a line stays, so it comes less often than one that overwrites itself.
_PLAIN_EVERY_S = 5.0


def _show_faults(wanted: bool) -> None:
    if not wanted:
        return
    from producer.faults.parse import FAULTS, SYNTAX

    typer.echo(f"--inject {SYNTAX}\n")
    for kind in FAULTS.values():
        typer.echo(f"  {kind.name:<12} {kind.help}")
        for line in kind.amount_help.splitlines():
            typer.echo(f"  {'':<12} {line}")
    raise typer.Exit


def produce(
    recordings: RecordingNames,
    bootstrap_servers: BootstrapServers = DEFAULT_BOOTSTRAP_SERVERS,
    speed: Speed = DEFAULT_SPEED,
    wearers: Wearers = ProducerSettings.wearers,
    loop: Annotated[
        bool,
        typer.Option(
            "--loop",
            help="Repeat each device's sessions endlessly, as <session>#2, <session>#3, …",
            envvar="REPSTREAM_LOOP",
        ),
    ] = ProducerSettings.loop,
    packet_samples: Annotated[
        int, typer.Option(min=1, max=500, help="Samples per packet.", envvar="REPSTREAM_PACKET_SAMPLES")
    ] = ProducerSettings.packet_samples,
    label_delay: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds of event time between the end of a labelled interval and its message on the labels topic.",
            envvar="REPSTREAM_LABEL_DELAY",
        ),
    ] = ProducerSettings.label_delay_s,
    inject: Inject = None,
    list_faults: Annotated[
        bool,
        typer.Option("--list-faults", callback=_show_faults, is_eager=True, help="List the available faults and exit."),
    ] = False,
    seed: Seed = ProducerSettings.seed,
    partitions: Partitions = 4,
    duration: Duration = ProducerSettings.duration_s,
    session_suffix: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Append this to each session's name, to replay recordings again that are already in the log.",
            envvar="REPSTREAM_SESSION_SUFFIX",
        ),
    ] = ProducerSettings.session_suffix,
    controllable: Annotated[
        bool,
        typer.Option(
            "--controllable",
            help="Accept commands from the live page: pause, speed, faults. Without it every replay of the same options is identical.",
            envvar="REPSTREAM_CONTROLLABLE",
        ),
    ] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    as_json: JsonOutput = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not report progress on stderr.")] = False,
) -> None:
    """Replay recordings into Kafka, as any number of wearers; returns when all is acknowledged.

    Run again after it was stopped or killed, it goes on where the log ends.
    """
    # Before the imports below: what was asked for wrongly is said at once.
    pace = parse_speed(speed)
    faults = parse_faults(inject)

    from prometheus_client import CollectorRegistry

    from producer.service import Producer
    from repstream.kafka.connection import KafkaConnection
    from repstream.recordings.catalogue import resolve
    from repstream.service.http import Heartbeat
    from repstream.service.running import metrics_server, stop_on_signals

    with usage_errors():
        settings = ProducerSettings(
            speed=pace,
            wearers=wearers,
            loop=loop,
            packet_samples=packet_samples,
            label_delay_s=label_delay,
            faults=faults,
            seed=seed,
            partitions=partitions,
            duration_s=duration,
            session_suffix=session_suffix,
        )
    found = resolve(recordings)
    registry = CollectorRegistry()
    pulse = Heartbeat(stop_on_signals().is_set)
    with _progress_line(quiet) as (show, say):
        with usage_errors():
            producer = Producer(
                settings,
                KafkaConnection.from_environment(bootstrap_servers),
                found,
                registry=registry,
                stopping=pulse,
                progress=show,
                say=say,
                controllable=controllable,
            )
        with metrics_server(registry, metrics_host, metrics_port, producer.health, pulse):
            summary = producer.run()
    typer.echo(json.dumps(summary.as_json()) if as_json else _in_words(summary))


@contextmanager
def _progress_line(
    quiet: bool,
) -> Iterator[tuple[Callable[[ProduceProgress], None] | None, Callable[[str], None]]]:
    """Show progress on stderr: one line that overwrites itself on a terminal, else one every 5 s."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    if quiet:
        yield None, say
    elif console.is_terminal:
        with console.status("waiting for Kafka") as status:
            yield lambda p: status.update(_as_line(p)), say
    else:
        shown_s = time.monotonic()

        def show(progress: ProduceProgress) -> None:
            nonlocal shown_s
            if time.monotonic() - shown_s >= _PLAIN_EVERY_S:
                shown_s = time.monotonic()
                say(_as_line(progress))

        yield show, say


def _as_line(p: ProduceProgress) -> str:
    return (
        f"{p.active_wearers} of {p.wearers} wearers · {p.packets:,} packets, {p.packets_per_s:,.0f}/s · "
        f"behind by {p.behind_s:.1f} s · {p.in_flight:,} not acknowledged · {p.seconds:.0f} s"
    )


def _in_words(summary: ProduceSummary) -> str:
    faults = ", ".join(f"{kind} {n}" for kind, n in summary.faults.items())
    return (
        f"{summary.packets:,} packets ({summary.samples:,} samples) and {summary.labels:,} labels of "
        f"{summary.wearers:,} wearer{'' if summary.wearers == 1 else 's'} in {summary.seconds:.1f} s, "
        f"all acknowledged{f'; faults: {faults}' if faults else ''}"
        f"{'; stopped before the end' if summary.stopped else ''}"
    )
