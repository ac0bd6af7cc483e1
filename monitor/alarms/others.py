"""Models whose predictions stand in the topic beside those of the one that is watched; pure.

Monitors of several models may share the topics, each with alarms of its own. An alarm whose model nobody uses any
more would stay on for ever: it ends once no prediction of that model has come for `SILENT_S`, though others have.
Only what this monitor has read itself counts, so that a new one does not end what another one still watches.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from repstream.messages.messages import Alarm

SILENT_S = 3600.0
"""So long others must have come without one of a model, s by their records' timestamps."""

# A single record with a wrong timestamp is not to make all others silent.
_LATER_S = 600.0
_MOST = 100


class OtherModels:
    """The other models, and when each was last heard of.

    Parameters
    ----------
    model : str
        ``name/version`` of the one that is watched.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._heard_s: dict[str, float] = {}
        self._first_s: dict[int, float] = {}
        self._newest_s = 0.0

    def hear(self, model: str, at_s: float, partition: int) -> bool:
        """Take a prediction's model, and its record's timestamp and partition; tell whether it is another, new one."""
        if not self._first_s:
            self._newest_s = at_s
        self._first_s.setdefault(partition, at_s)
        self._newest_s = max(self._newest_s, min(at_s, self._newest_s + _LATER_S))
        if model == self._model:
            return False
        is_new = model not in self._heard_s
        self._heard_s[model] = max(self._heard_s.pop(model, 0.0), at_s)
        if len(self._heard_s) > _MOST:
            del self._heard_s[next(iter(self._heard_s))]
        return is_new

    def names(self) -> list[str]:
        """Other models that were heard of within `SILENT_S`."""
        return sorted(name for name, at_s in self._heard_s.items() if at_s >= self._newest_s - SILENT_S)

    def ended(self, alarms: Iterable[Alarm]) -> list[Alarm]:
        """End those alarms, of those that are on, whose model has fallen silent; say why in their text."""
        ended: list[Alarm] = []
        if not self._first_s:
            return ended
        listening_s = max(self._first_s.values())
        for alarm in alarms:
            if alarm.model == self._model:
                continue
            last_s = max(listening_s, self._heard_s.get(alarm.model, 0.0), min(alarm.raised, self._newest_s))
            if self._newest_s - last_s > SILENT_S:
                why = f" Ended because no prediction of model {alarm.model} has come for an hour, and others have."
                over_s = max(alarm.raised, last_s)
                ended.append(msgspec.structs.replace(alarm, text=alarm.text + why, ended=over_s))
        return ended
