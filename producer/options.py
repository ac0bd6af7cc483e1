"""What `produce` and `demo` can both be asked for; light, as each command's help needs it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from producer.settings import AS_FAST_AS_POSSIBLE, ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.faults.parse import Fault

Speed = Annotated[
    str,
    typer.Option(
        metavar="X|max",
        help="Replay speed: X times the recorded pace, or max for as fast as possible. Event time ends at the current time.",
        envvar="REPSTREAM_SPEED",
    ),
]

Wearers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Devices: the recordings' own first, then copies (<device>~2, …), started at different "
        "times. Default: each recording once, under its own device and session.",
        envvar="REPSTREAM_WEARERS",
        show_default=False,
    ),
]

Duration = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="Stop after this many seconds of wall-clock time. Default: when the recordings end.",
        envvar="REPSTREAM_DURATION",
        show_default=False,
    ),
]

Inject = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND[:AMOUNT]@START[-END][/DEVICE]",
        help="Inject a fault, e.g. drop:0.05@30-90/spar-s08-*; repeatable. START and END in s of event "
        "time from the start of the replay, DEVICE a pattern; the kinds: repstream produce --list-faults. In the "
        "environment separated by spaces.",
        envvar="REPSTREAM_INJECT",
        show_default=False,
    ),
]

Seed = Annotated[int, typer.Option(help="Random seed for faults and starting times.", envvar="REPSTREAM_SEED")]


def speed_text(speed: float) -> str:
    """Write a speed as ``--speed`` takes it."""
    return "max" if speed == AS_FAST_AS_POSSIBLE else repr(speed).removesuffix(".0")


DEFAULT_SPEED = speed_text(ProducerSettings.speed)


def parse_speed(text: str) -> float:
    """Read ``--speed``: a number above 0, or max (infinity)."""
    if text == "max":
        return AS_FAST_AS_POSSIBLE
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise typer.BadParameter(f"{text!r} is neither a number above 0 nor max", param_hint="--speed")
    return speed


def parse_faults(specs: Sequence[str] | None) -> tuple[Fault, ...]:
    """Read all ``--inject``; a usage error names what is wrong."""
    if not specs:
        return ()
    from producer.faults.parse import parse_fault
    from repstream.errors import SettingsError

    try:
        return tuple(parse_fault(spec) for spec in specs)
    except SettingsError as error:
        raise typer.BadParameter(str(error), param_hint="--inject") from None
