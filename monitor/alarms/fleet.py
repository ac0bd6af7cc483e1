"""Alarms about all devices together: what they do, how well they are recognised, what befell many at once; pure.

Each condition must hold over several passes before its alarm begins, and be gone for a minute before it ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from monitor.drift.checks import DRIFTED_SHARE
from monitor.drift.passes import PassResult
from repstream.messages.messages import Alarm, AlarmCause

_BEGIN_PASSES, _BEGIN_S = 3, 10.0
_END_S = 60.0
# Below the accuracy that the reference has by so much, on at least so many labelled windows.
ACCURACY_DROP = 0.15
_LABELLED = 60
# A fault on so many devices, and on such a share of them, has one cause.
_MANY_DEVICES, _MANY_SHARE = 3, 0.5


@dataclass(frozen=True)
class Finding:
    """One condition as a pass found it: what to say where it holds, and how sure."""

    text: str
    advice: str
    certainty: float


@dataclass(slots=True)
class _Condition:
    holds: int = 0
    since_s: float = 0.0  # event time
    first_s: float = 0.0  # by the clock, as the next one
    last_s: float | None = None
    alarm: Alarm | None = None


class FleetWatch:
    """What holds for all devices.

    Parameters
    ----------
    model : str
        ``name/version``.
    accuracy : float
        Of the reference windows, 0-1.
    open_alarms : iterable of Alarm
        Those that were on when the monitor ended; other models' are left to their monitors.
    """

    def __init__(self, model: str, accuracy: float, open_alarms: Iterable[Alarm] = ()) -> None:
        self._model = model
        self._accuracy = accuracy
        self._conditions: dict[AlarmCause, _Condition] = {
            a.cause: _Condition(_BEGIN_PASSES, a.since, alarm=a)
            for a in open_alarms
            if a.scope == "all" and a.model == model
        }

    def add(self, result: PassResult, device_alarms: Sequence[Alarm], n_devices: int, newest_s: float) -> list[Alarm]:
        """Take what a pass found; return the alarms that began or ended by it.

        Parameters
        ----------
        device_alarms : sequence of Alarm
            Those of single devices that are on.
        n_devices : int
            How many devices are watched.
        newest_s : float
            Newest event time, s.
        """
        found = {**_of_pass(result, self._accuracy), **_of_many(device_alarms, n_devices)}
        told = []
        for cause in [*found, *(c for c in self._conditions if c not in found)]:
            condition = self._conditions.setdefault(cause, _Condition())
            alarm = self._step(cause, condition, found.get(cause), newest_s, result.made_s)
            if alarm is not None:
                told.append(alarm)
        self._conditions = {k: c for k, c in self._conditions.items() if c.holds or c.alarm is not None}
        return told

    def _step(
        self, cause: AlarmCause, condition: _Condition, finding: Finding | None, newest_s: float, made_s: float
    ) -> Alarm | None:
        if finding is None:
            if condition.alarm is None:
                condition.holds = 0
                return None
            if condition.last_s is None:  # a restart lies in between
                condition.last_s = made_s
            if made_s - condition.last_s < _END_S:
                return None
            ended, condition.alarm, condition.holds = condition.alarm, None, 0
            return msgspec.structs.replace(ended, ended=newest_s)
        if not condition.holds:
            condition.since_s, condition.first_s = newest_s, made_s
        condition.holds += 1
        condition.last_s = made_s
        if condition.alarm is not None or condition.holds < _BEGIN_PASSES or made_s - condition.first_s < _BEGIN_S:
            return None
        condition.alarm = Alarm(
            id=f"all/{cause}/{round(condition.since_s * 1e3)}",
            scope="all",
            device="",
            cause=cause,
            axes=[],
            text=finding.text,
            advice=finding.advice,
            since=condition.since_s,
            raised=newest_s,
            certainty=round(finding.certainty, 3),
            model=self._model,
        )
        return condition.alarm


def _of_pass(result: PassResult, usual_accuracy: float) -> dict[AlarmCause, Finding]:
    found: dict[AlarmCause, Finding] = {}
    if result.data.enough and result.data.drifted:
        worst = sorted(result.data.features.items(), key=lambda item: -item[1].score)[:3]
        found["data-drift"] = Finding(
            f"{result.data.drifted_share:.0%} of the features differ from the reference, most of all "
            f"{', '.join(name for name, _ in worst)}: other people, other sensors or a fault.",
            "See which devices have alarms of their own; if none, compare the wearers with those of the reference.",
            min(result.data.drifted_share / DRIFTED_SHARE / 2.0, 1.0),
        )
    labels = result.target.labels
    if labels is not None and labels.drifted:
        found["exercise-mix"] = Finding(
            "The mix of predicted exercises differs from the reference: something else is being done, or taken for it.",
            "Ask what is being done. If it is as usual, look at confidence and at alarms of single devices.",
            min(labels.score / labels.threshold / 2.0, 1.0),
        )
    accuracy = result.classification.accuracy
    if accuracy is not None and result.labelled >= _LABELLED and accuracy < usual_accuracy - ACCURACY_DROP:
        found["accuracy"] = Finding(
            f"{accuracy:.0%} of {result.labelled} labelled windows are right; of people the model had not seen, "
            f"{usual_accuracy:.0%} were when it was trained.",
            "See the confusion matrix and the alarms of single devices; check that labels and clocks agree.",
            min((usual_accuracy - accuracy) / ACCURACY_DROP / 2.0, 1.0),
        )
    return found


def _of_many(alarms: Sequence[Alarm], n_devices: int) -> dict[AlarmCause, Finding]:
    found: dict[AlarmCause, Finding] = {}
    for cause, n in Counter(a.cause for a in alarms).items():
        if n >= _MANY_DEVICES and n >= _MANY_SHARE * n_devices:
            found[cause] = Finding(
                f"{n} of {n_devices} devices have the alarm {cause!r} at once: one cause is likelier than many.",
                "Look for what they share: a software update, a change of mounting, one batch, one sender.",
                n / n_devices,
            )
    return found
