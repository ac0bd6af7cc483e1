"""All that the live page is fed from, in one place to begin and to end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitor.live.hub import Hub, Subscriber, View
from monitor.live.observer import LiveObserver
from monitor.live.tap import SampleTap
from monitor.live.traffic import TrafficWatch
from monitor.live.views import DriftView, EveryoneView, Sources, StatusView, WearerView
from monitor.service import Monitor
from repstream.messages.messages import Alarm

WEARER = "wearer/"


class LivePage:
    """The views of a running monitor; nothing of it runs while nobody looks.

    Parameters
    ----------
    monitor : Monitor
    observer : LiveObserver
        The monitor's, among its observers.
    alarms : callable
        Those open now, and those that ended lately.
    ledger : callable
        What became of all samples.
    """

    def __init__(
        self,
        monitor: Monitor,
        observer: LiveObserver,
        alarms: Callable[[], Sequence[Alarm]],
        ledger: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        self.connection = monitor.connection
        self.traffic = TrafficWatch(monitor.connection, monitor.settings.predictor_group)
        self._tap = SampleTap(monitor.connection, observer.feed.newest_event_s)
        self.sources = Sources(
            model=monitor.model.id,
            labels=monitor.model.labels,
            started=secrets.token_hex(8),
            feed=observer.feed,
            drift=observer.drift,
            rings=self._tap.rings,
            traffic=self.traffic.now,
            ready=monitor.ready,
            last_pass=lambda: monitor.last_pass,
            current=lambda: monitor.intake.table(monitor.settings.monitoring.current).current,
            reference=monitor.reference,
            alarms=alarms,
            ledger=ledger,
        )
        self._hub = Hub(self._view, self._watched)

    def _view(self, key: str) -> View:
        if key.startswith(WEARER):
            return WearerView(self.sources, key.removeprefix(WEARER))
        makers: dict[str, Callable[[Sources], View]] = {
            "status": StatusView,
            "everyone": EveryoneView,
            "drift": DriftView,
        }
        return makers[key](self.sources)

    def _watched(self, keys: set[str]) -> None:
        self.traffic.watch(bool(keys))
        self._tap.watch({key.removeprefix(WEARER) for key in keys if key.startswith(WEARER)})

    def subscribe(self, keys: tuple[str, ...], client: str) -> Subscriber:
        """Let a browser of an address look at some views, and at the status; raises `TooManyError`."""
        return self._hub.subscribe(("status", *keys), client)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a browser."""
        self._hub.leave(subscriber)

    def close(self) -> None:
        """End all streams and threads."""
        self._hub.close()
        self._tap.close()
        self.traffic.close()
