"""What a demo is to be; light, as the command takes its options' defaults from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from producer.settings import ProducerSettings

GROUP = "repstream-demo"
MONITOR_GROUP = "repstream-demo-monitor"
LATENESS_S = 1.0


@dataclass(frozen=True)
class DemoSettings:
    """What a demo is to be.

    Attributes
    ----------
    recordings : tuple of str
        Names; empty for the sessions of the people that the model has not seen.
    model : str
        ``NAME`` or ``NAME/VERSION``.
    producer : ProducerSettings
        Speed, wearers, duration, seed and faults.
    inject : tuple of str
        The faults as they were written.
    port : int or None
        Of the live page; None takes 8080, or a free one where that is taken.
    """

    recordings: tuple[str, ...]
    model: str
    models_dir: Path | None
    producer: ProducerSettings
    inject: tuple[str, ...] = ()
    port: int | None = None
