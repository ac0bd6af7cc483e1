"""How a demo looks: a frame of plain values to a table on the terminal, a line of text, or a picture; pure.

Right and wrong are told by a sign as well as by colour.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from demo.live import Percentiles
from repstream.recordings.spar import EXERCISES

# Title, the table's frame and head, "… and N more", three lines below, and the cursor's.
_LINES_AROUND_ROWS = 11
# The exercises' names in full want this much; below it their codes do.
_WIDE_COLUMNS = 104
_PICTURE_COLUMNS = 112
_BAR_CELLS = 10


@dataclass(frozen=True)
class Row:
    """A wearer as it stands.

    Attributes
    ----------
    label : str or None
        None before the first prediction.
    is_fresh : bool
        Whether the prediction is of now, not of a session that ended.
    """

    wearer: str
    truth: str | None
    label: str | None
    is_right: bool | None
    confidence: float
    latency_s: float | None
    accuracy: float | None
    is_fresh: bool = True


@dataclass(frozen=True)
class Frame:
    """All that the table shows at a time.

    Attributes
    ----------
    about : str
        The model, and whom it has never seen.
    phase : str
        What the demo is at.
    lag : float or None
        Packets that wait; None where the predictor does not say.
    """

    about: str
    phase: str
    rows: Sequence[Row]
    elapsed_s: float
    packets_per_s: float
    predictions_per_s: float
    lag: float | None
    n_labelled: int
    accuracy: float | None
    latency_ms: Percentiles


def rows_that_fit(height: int) -> int:
    """How many wearers a terminal of so many lines has room for."""
    return max(height - _LINES_AROUND_ROWS, 1)


def render(frame: Frame, width: int, height: int) -> RenderableType:
    """Draw a frame for a terminal of a size in characters."""
    is_wide = width >= _WIDE_COLUMNS
    n_fit = rows_that_fit(height)
    table = Table(box=box.ROUNDED, border_style="dim", header_style="bold")
    table.add_column("wearer", no_wrap=True)
    table.add_column("really does" if is_wide else "does", no_wrap=True, min_width=19 if is_wide else 4)
    table.add_column("predicted", no_wrap=True, min_width=21 if is_wide else 9)
    table.add_column("confidence", no_wrap=True, min_width=_BAR_CELLS + 5 if is_wide else 10)
    table.add_column("latency", justify="right", no_wrap=True, min_width=8)
    table.add_column("right so far" if is_wide else "right", justify="right", no_wrap=True, min_width=6)
    for row in frame.rows[:n_fit]:
        table.add_row(*_cells(row, is_wide), style="" if row.is_fresh else "dim")
    title = Text.assemble(("Repstream", "bold cyan"), "  ", frame.about)
    title.truncate(width, overflow="ellipsis")
    parts: list[RenderableType] = [title, table]
    n_more = len(frame.rows) - n_fit
    if n_more > 0:
        parts.append(Text(f"  … and {n_more} more", "dim"))
    return Group(*parts, _footer(frame), Text(f"  {frame.phase}", "dim"))


def _cells(row: Row, is_wide: bool) -> list[Text]:
    if row.label is None:
        waiting = Text("first window …", "dim") if is_wide else Text("…", "dim")
        return [Text(row.wearer), waiting, Text(), Text(), Text(), Text()]
    sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "")}[row.is_right]
    return [
        Text(row.wearer),
        Text("?" if row.truth is None else _exercise(row.truth, is_wide)),
        Text(f"{sign} {_exercise(row.label, is_wide)}", style),
        Text.assemble((bar(row.confidence, _BAR_CELLS if is_wide else 5), "cyan"), f" {row.confidence:4.0%}"),
        Text(_ms(row.latency_s)),
        Text(_share(row.accuracy)),
    ]


def _exercise(label: str, is_wide: bool) -> str:
    return EXERCISES.get(label, label) if is_wide else label


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """Draw a share of 0–1 as a bar, to half a character.

    Examples
    --------
    >>> bar(0.62, cells=4), bar(1.0, cells=4)
    ('━━╸ ', '━━━━')
    """
    whole, half = divmod(round(min(max(share, 0.0), 1.0) * cells * 2), 2)
    return ("━" * whole + "╸" * half).ljust(cells)


def _footer(frame: Frame) -> Table:
    grid = Table.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(no_wrap=True, min_width=8)
    grid.add_row(
        "  elapsed", _clock(frame.elapsed_s), "packets/s", f"{frame.packets_per_s:,.0f}",
        "predictions/s", f"{frame.predictions_per_s:,.1f}", "lag", _lag(frame.lag),
    )  # fmt: skip
    latency = frame.latency_ms
    grid.add_row(
        "  right", _share(frame.accuracy), "of windows", f"{frame.n_labelled:,}",
        "latency p50", _ms_of(latency.p50), "p95", _ms_of(latency.p95),
    )  # fmt: skip
    return grid


def as_line(frame: Frame) -> str:
    """Say a frame in one line, for what is not a terminal."""
    return (
        f"{frame.phase} · {_clock(frame.elapsed_s)} · {len(frame.rows)} wearers · "
        f"{frame.packets_per_s:,.0f} packets/s · {frame.predictions_per_s:,.1f} predictions/s · "
        f"lag {_lag(frame.lag)} · {_share(frame.accuracy)} of {frame.n_labelled:,} windows right · "
        f"latency p50 {_ms_of(frame.latency_ms.p50)}, p95 {_ms_of(frame.latency_ms.p95)}"
    )


def as_svg(frame: Frame) -> str:
    """Draw a frame as an SVG picture that needs nothing from elsewhere."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=_PICTURE_COLUMNS,
        height=40,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(render(frame, _PICTURE_COLUMNS, 40))
    svg = console.export_svg(title="repstream demo")
    # rich names a font to be fetched from a server; any monospaced one does, as each text has its length.
    svg = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _ms(latency_s: float | None) -> str:
    return "–" if latency_s is None else _ms_of(latency_s * 1e3)


def _ms_of(latency_ms: float | None) -> str:
    return "–" if latency_ms is None else f"{latency_ms:,.0f} ms"


def _lag(lag: float | None) -> str:
    return "–" if lag is None else f"{lag:,.0f}"
