"""The alarms that there are: read back from their topic, so that what is shown is what was told; pure."""

from __future__ import annotations

from collections import Counter, OrderedDict

from repstream.messages.messages import Alarm

_KEPT = 500


class AlarmBook:
    """Alarms by id and model, the newest state of each; those that are over are kept up to a number."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Alarm] = {}
        self._ended: OrderedDict[tuple[str, str], Alarm] = OrderedDict()

    def add(self, alarm: Alarm) -> None:
        """Take an alarm's beginning or end."""
        key = alarm.id, alarm.model
        if alarm.ended is None:
            # A beginning that is read after its end was read already.
            if key not in self._ended:
                self._open[key] = alarm
            return
        self._open.pop(key, None)
        self._ended[key] = alarm
        self._ended.move_to_end(key)
        while len(self._ended) > _KEPT:
            self._ended.popitem(last=False)

    def open(self) -> list[Alarm]:
        """Those that are on, the newest first."""
        return sorted(self._open.values(), key=lambda a: -a.raised)

    def all(self) -> list[Alarm]:
        """Those that are on, then those that are over, each the newest first."""
        return [*self.open(), *sorted(self._ended.values(), key=lambda a: -(a.ended or 0.0))]

    def counts(self) -> Counter[tuple[str, str]]:
        """How many are on, by (cause, scope)."""
        return Counter((a.cause, a.scope) for a in self._open.values())
