"""``repstream bench``: the project's own benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from repstream.cli.options import JsonOutput

PARTS = ("throughput", "scaling", "features", "latency", "recovery")


def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]…", help=f"What to measure: {', '.join(PARTS)}. Default: all (about 8 minutes)."),
    ] = None,
    wearers: Annotated[int, typer.Option(min=1, help="Wearers in the backlog of throughput.")] = 400,
    seconds: Annotated[float, typer.Option(min=10.0, help="Length of that backlog, s of wear.")] = 30.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of throughput and recovery.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Also write the figures to this file, as JSON.")] = None,
    as_json: JsonOutput = False,
) -> None:
    """Measure cost a packet, wearers a core, latency and recovery, as ratios in one run."""
    from bench import measure

    chosen = parts or list(PARTS)
    for part in chosen:
        if part not in PARTS:
            raise typer.BadParameter(f"{part!r} is none of {', '.join(PARTS)}")

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    run: dict[str, Any] = {
        "throughput": lambda: measure.throughput(progress, wearers, seconds, repeats),
        "scaling": lambda: measure.scaling(progress),
        "features": lambda: measure.features(progress),
        "latency": lambda: measure.latency(progress),
        "recovery": lambda: measure.recovery(progress, repeats),
    }
    figures: dict[str, Any] = {"machine": measure.machine()}
    for part in chosen:
        figures[part] = run[part]()
    text = json.dumps(figures, indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    typer.echo(text if as_json else measure.report(figures))
