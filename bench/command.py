"""``repstream bench``: the project's own benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from repstream.service.options import DEFAULT_MODEL, JsonOutput

PARTS = ("throughput", "scaling", "features", "latency", "recovery", "monitor", "drift")


def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]…", help=f"What to measure: {', '.join(PARTS)}. Default: all (about 15 minutes)."
        ),
    ] = None,
    wearers: Annotated[
        int, typer.Option(min=1, help="Number of wearers in the backlogs of throughput and monitor.")
    ] = 400,
    seconds: Annotated[float, typer.Option(min=10.0, help="Length of that backlog, in seconds of wear.")] = 30.0,
    repeats: Annotated[int, typer.Option(min=1, help="Number of rounds of throughput and recovery.")] = 3,
    predictions: Annotated[
        int, typer.Option(min=1_000, help="Number of predictions in the backlog of monitor.")
    ] = 200_000,
    hours: Annotated[float, typer.Option(min=0.1, help="Hours of stable wear per device in drift.")] = 24.0,
    out: Annotated[Path | None, typer.Option(help="Also write the figures to this file as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the figures of drift to this PNG file.")] = None,
    as_json: JsonOutput = False,
) -> None:
    """Measure cost per packet, wearers per core, latency, recovery and alarms, as ratios in one run."""
    from bench import drift, measure
    from bench import monitor as of_monitor
    from repstream.recognition.model import load_model
    from repstream.recordings.catalogue import resolve

    chosen = parts or list(PARTS)
    for part in chosen:
        if part not in PARTS:
            raise typer.BadParameter(f"{part!r} is not one of {', '.join(PARTS)}")

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    run: dict[str, Any] = {
        "throughput": lambda: measure.throughput(progress, wearers, seconds, repeats),
        "scaling": lambda: measure.scaling(progress),
        "features": lambda: measure.features(progress),
        "latency": lambda: measure.latency(progress),
        "recovery": lambda: measure.recovery(progress, repeats),
        "monitor": lambda: of_monitor.monitor(
            progress, load_model(DEFAULT_MODEL), resolve(["spar/*"]), wearers, predictions
        ),
        "drift": lambda: drift.drift(progress, hours),
    }
    figures: dict[str, Any] = {"machine": measure.machine()}
    for part in chosen:
        figures[part] = run[part]()
    if picture is not None and "drift" in figures:
        from bench.drift_picture import draw

        draw(figures["drift"], picture)
    text = json.dumps(figures, indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
        return
    typer.echo(measure.report(figures))
    if "monitor" in figures:
        typer.echo(of_monitor.report(figures["monitor"]))
    if "drift" in figures:
        typer.echo(drift.report(figures["drift"]))
