"""Pictures of recordings as a page of SVG: both sensors over time, labels as bands; no package needed."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from repstream.recordings.axes import AXES
from repstream.recordings.quality import Quality
from repstream.recordings.recording import Recording

_WIDTH, _HEIGHT, _LEFT = 900, 110, 60
_COLOURS = ("#c0392b", "#27864a", "#2463b4")
_BANDS = ("#f6d8a8", "#cfe3f7", "#d9ecd0", "#ead6ee", "#f4d3d3", "#dfe0d1")
_POINTS = 1_200

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 980px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
h2 { margin: 2em 0 .2em } p { margin: .3em 0 } svg { width: 100%; height: auto; background: #fafafa; display: block }
.bad { color: #9c2114 } .quiet { color: #555 }
"""


def page(recordings: Sequence[Recording], found: Sequence[Quality]) -> str:
    """Return a page of HTML with a picture and the figures of each recording."""
    parts = [_section(r, q) for r, q in zip(recordings, found, strict=True)]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>Recordings</title><style>{_STYLE}</style>"
    return f"{head}<h1>{len(parts)} recordings</h1>{''.join(parts)}</html>\n"


def _section(recording: Recording, found: Quality) -> str:
    escape = html.escape
    facts = (
        f"subject {escape(found.subject)} · session {escape(found.session)} · {found.seconds:.1f} s at {found.rate_hz:g} Hz, "
        f"jitter {found.jitter_ms:g} ms · {found.gravity_g:g} g at rest on {found.gravity_axis}"
    )
    windows = ", ".join(f"{escape(label)} {n}" for label, n in found.windows.items()) or "none"
    said = "".join(f"<p class=bad>{escape(text)}</p>" for text in found.remarks)
    copies = f"<p class=bad>same movement as {escape(', '.join(found.copies))}</p>" if found.copies else ""
    return (
        f"<h2>{escape(found.name)}</h2><p class=quiet>{facts}</p><p class=quiet>windows: {windows}</p>{said}{copies}"
        + "".join(plots(recording))
    )


def plots(recording: Recording) -> list[str]:
    """Draw acceleration and angular rate over time, each an SVG.

    What is drawn has classes (``band``; ``x``, ``y`` and ``z`` of lines and texts), by which a page with colours of its
    own changes these.
    """
    return [_plot(recording, 0, "g"), _plot(recording, 3, "°/s")]


def _plot(recording: Recording, first: int, unit: str) -> str:
    t, values = recording.time_s - recording.time_s[0], recording.values[:, first : first + 3]
    every = max(len(t) // _POINTS, 1)
    t, values = t[::every], values[::every]
    low, high = float(values.min()), float(values.max())
    span, length = max(high - low, 1e-9), max(float(t[-1]), 1e-9)
    x = _LEFT + t / length * (_WIDTH - _LEFT)
    bands, names = [], sorted({label for _, _, label in recording.label_intervals()})
    for start, end, label in recording.label_intervals():
        a, b = (_LEFT + (recording.time_s[i] - recording.time_s[0]) / length * (_WIDTH - _LEFT) for i in (start, end))
        colour = _BANDS[names.index(label) % len(_BANDS)]
        bands.append(
            f'<rect class="band" x="{a:.1f}" width="{max(b - a, 0.5):.1f}" height="{_HEIGHT}" fill="{colour}"><title>{html.escape(label)}'
            "</title></rect>"
        )
        if first == 0 and b - a > 7.0 * len(label):
            bands.append(
                f'<text x="{a + 4:.1f}" y="{_HEIGHT - 4}" font-size="11" fill="#555">{html.escape(label)}</text>'
            )
    lines = []
    for i in range(3):
        y = (_HEIGHT - 6) - (values[:, i] - low) / span * (_HEIGHT - 12)
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in np.column_stack([x, y]))
        lines.append(
            f'<polyline class="{"xyz"[i]}" points="{points}" fill="none" stroke="{_COLOURS[i]}" stroke-width="1"><title>{AXES[first + i]}</title>'
            "</polyline>"
        )
    marks = (
        f'<text x="4" y="14" font-size="11">{high:.3g} {unit}</text><text x="4" y="{_HEIGHT - 4}" font-size="11">{low:.3g} '
        f'{unit}</text><text x="{_WIDTH - 4}" y="{_HEIGHT - 4}" font-size="11" text-anchor="end">{length:.1f} s</text>'
    )
    for i, axis in enumerate("xyz"):
        marks += (
            f'<text class="{axis}" x="{4 + 14 * i}" y="{_HEIGHT / 2}" font-size="11" fill="{_COLOURS[i]}">{axis}</text>'
        )
    what = "acceleration" if first == 0 else "angular rate"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{what} of {html.escape(recording.name)}">'
        f"{''.join(bands)}{''.join(lines)}{marks}</svg>"
    )
