"""Draw how soon faults are found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

_FOUND, _MISSED, _AIM = "#0072B2", "#D55E00", "#555555"  # told apart by the colour-blind (Okabe and Ito)


def draw(figures: dict[str, Any], path: Path) -> None:
    """Write a picture of `bench.drift.drift`'s figures: delays (median, p90), aims, misses, right causes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    cases = figures["cases"][::-1]
    fig, ax = plt.subplots(figsize=(10.0, 0.27 * len(cases) + 1.4), layout="constrained")
    for y, case in enumerate(cases):
        if math.isfinite(case["median_s"]):
            ax.plot([case["median_s"], case["p90_s"]], [y, y], color=_FOUND, linewidth=2, solid_capstyle="round")
            ax.plot(case["median_s"], y, "o", color=_FOUND, markersize=6)
        if case["aim_s"] is not None:
            ax.plot([case["aim_s"]] * 2, [y - 0.35, y + 0.35], color=_AIM, linewidth=1.5)
        right = case["right_cause"]
        named = f"{right:.0%} right cause" if math.isfinite(right) else ""
        beside = ax.get_yaxis_transform()
        missed = _MISSED if case["missed"] > 0.05 else _AIM
        ax.text(1.02, y, f"{case['missed']:.0%} missed", va="center", color=missed, transform=beside)
        ax.text(1.19, y, named, va="center", color=_AIM if right >= 0.8 else _MISSED, transform=beside)
    ax.set_yticks(range(len(cases)), [c["name"] for c in cases])
    ax.set_ylim(-0.8, len(cases) - 0.2)
    ax.set_xscale("log")
    ax.set_xlim(5, 300)
    ticks = (5, 10, 15, 30, 60, 120, 300)
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("from the fault to the alarm, s of wear: median ● to 90th percentile; | the aim")
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0)
    stable = figures["stable"]
    ax.set_title(
        f"False alarms in {stable['hours']:.0f} h of stable wear of people that nothing was learned from: "
        f"{stable['false_alarms']}",
        fontsize=10,
        loc="left",
    )
    fig.savefig(path, dpi=110)
    plt.close(fig)
