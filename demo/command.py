"""``repstream demo``: everything on this machine, on the embedded broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demo.settings import DemoSettings
from monitor.settings import PAGE_PORT
from producer.options import DEFAULT_SPEED, Duration, Inject, Seed, Speed, Wearers, parse_faults, parse_speed
from producer.settings import ProducerSettings
from repstream.service.options import DEFAULT_MODEL, JsonOutput, ModelName, ModelsDir, usage_errors

if TYPE_CHECKING:
    from demo.result import DemoResult


def demo(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE…",
            help="Recordings: CSV or Parquet files, folders of them, or names of the catalogue; a pattern such as "
            "'spar/s08-*' takes all that fit. Default: the people that the model has never seen.",
            show_default=False,
        ),
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    models_dir: ModelsDir = None,
    wearers: Wearers = ProducerSettings.wearers,
    speed: Speed = DEFAULT_SPEED,
    duration: Duration = ProducerSettings.duration_s,
    inject: Inject = None,
    seed: Seed = ProducerSettings.seed,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="P",
            help=f"Port of the live page. Default: {PAGE_PORT}, or a free one where that is taken, as with 0.",
            envvar="REPSTREAM_PORT",
            show_default=False,
        ),
    ] = DemoSettings.port,
    no_browser: Annotated[
        bool,
        typer.Option(
            "--no-browser",
            help="Print the live page's address instead of opening it in a browser.",
            envvar="REPSTREAM_NO_BROWSER",
        ),
    ] = False,
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write the summary to this file as JSON.",
            envvar="REPSTREAM_SUMMARY",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Save the final live table to this file as SVG.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOutput = False,
) -> None:
    """Watch live predictions on this machine: broker and all services, until the recordings end or Ctrl-C.

    Should Kafka hang, a demo with a --duration is given up 30 s after it.

    At the end all predictions are read back and compared with those of repstream score: each window must be
    there once, with the same answer; else the exit code is 1.
    """
    pace = parse_speed(speed)
    faults = parse_faults(inject)

    from repstream.service.running import stop_on_signals

    # Before the imports below, which take a while: from here on Ctrl-C ends it in order.
    stopping = stop_on_signals()
    from demo.run import run, write_file
    from demo.table import as_svg
    from repstream.errors import RepstreamError

    with usage_errors():
        replay = ProducerSettings(speed=pace, wearers=wearers, faults=faults, seed=seed, duration_s=duration)
    settings = DemoSettings(tuple(recordings or ()), model, models_dir, replay, tuple(inject or ()), port)
    result = run(
        settings, stopping, lambda text: typer.echo(text, err=True), (lambda _: None) if no_browser else _open_page
    )
    said = result.as_json()
    typer.echo(json.dumps(said) if as_json else _in_words(result))
    if summary is not None:
        write_file(summary, json.dumps(said, indent=2) + "\n")
    if picture is not None:
        write_file(picture, as_svg(result.frame))
    outcome = result.outcome
    if not outcome.is_whole:
        raise RepstreamError(
            f"of {outcome.windows} windows {outcome.lost} were lost; {outcome.duplicated} predictions came more than "
            f"once, {outcome.differing} differ from batch"
        )


def _open_page(address: str) -> None:
    """Open a page where there is a screen; a browser in the terminal would be in the way."""
    import os
    import sys
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)


def _in_words(result: DemoResult) -> str:
    sent, outcome, latency = result.sent, result.outcome, result.latency_ms
    faults = ", ".join(f"{kind} {n}" for kind, n in sent.faults.items())
    lines = [
        f"sent      {sent.packets:,} packets ({sent.samples:,} samples) of {sent.wearers:,} wearers in "
        f"{sent.seconds:.1f} s{f'; faults: {faults}' if faults else ''}",
        f"windows   {outcome.windows:,}, predictions {outcome.predictions:,}: lost {outcome.lost}, "
        f"duplicated {outcome.duplicated}, differing from batch {outcome.differing}",
    ]
    if outcome.accuracy is not None:
        lines.append(f"right     {outcome.accuracy:.1%} of {outcome.n_labelled:,} labelled windows ({result.model})")
    if latency.p50 is not None:
        lines.append(
            f"latency   p50 {latency.p50:.0f} ms, p95 {latency.p95:.0f} ms, p99 {latency.p99:.0f} ms, "
            "from a window's newest sample to its prediction readable"
        )
    if result.first_prediction_s is not None:
        lines.append(f"first     prediction {result.first_prediction_s:.1f} s after the start")
    for alarm in result.drift["alarms"]:
        ended = "still on at the end" if alarm["ended_s"] is None else f"over at {alarm['ended_s']:.0f} s"
        who = alarm["device"] or "all devices"
        lines.append(
            f"alarm     {alarm['cause']}, {who}, since {alarm['since_s']:.0f} s, known at {alarm['raised_s']:.0f} s, "
            f"{ended}: {alarm['text']}"
        )
    if not result.drift["alarms"]:
        lines.append("alarm     none")
    return "\n".join(lines)
