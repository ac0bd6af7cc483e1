"""What the demo's monitor found, asked for over HTTP."""

from __future__ import annotations

import http.client
import json
import math
import time
from typing import Any

from demo.topics import ask
from repstream.errors import RepstreamError
from repstream.processes.children import Child

# The monitor reads at once what the predictor has committed, and looks at it every so often.
EVERY_S = 2.0
# The first look imports Evidently, 5 s of an idle core; the rest is for a machine busy with other things.
_TIMEOUT_S = 90.0
_POLL_S = 0.1


def found_by(monitor: Child, port: int, predictions: int, after_s: float) -> dict[str, Any]:
    """Wait until the monitor has looked at all predictions; return what it found.

    Parameters
    ----------
    predictions : int
        How many there are.
    after_s : float
        Clock when the last one was readable; a pass that was made later has seen it.

    Raises
    ------
    RepstreamError
        Where the monitor ends, or does not get there.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    all_read_s = math.inf
    while time.monotonic() < deadline:
        if not monitor.is_running():
            raise RepstreamError(f"the monitor ended: {monitor.last_words()}")
        answer = ask(port, "/monitoring", timeout_s=5.0)
        if answer is not None and answer[0] == http.client.OK:
            said: dict[str, Any] = json.loads(answer[1])
            if said["predictions"] >= predictions and not said["alarms_to_tell"]:
                all_read_s = min(all_read_s, time.time())
                if has_seen_all(said["last_pass"], predictions, after_s, all_read_s):
                    return said
        time.sleep(_POLL_S)
    raise RepstreamError(f"the monitor has not read {predictions:,} predictions within {_TIMEOUT_S:g} s")


def has_seen_all(last: dict[str, Any] | None, predictions: int, after_s: float, all_read_s: float) -> bool:
    """Whether a pass of the monitor has seen all predictions.

    A monitor that comes late begins passes after the last prediction was readable (`after_s`), and before it has read
    all of them (no later than `all_read_s`); epoch seconds.
    """
    if last is None:
        return False
    begun_s = last["made_s"] - last["seconds"]
    return bool(begun_s >= all_read_s or (begun_s >= after_s and last["seen"] >= predictions))


def verdicts(said: dict[str, Any], origin_s: float) -> dict[str, Any]:
    """Shorten it to the verdicts; times in s from the start of the replay."""
    last = said["last_pass"]
    data, target = last["data"], last["target"]

    def drifted(drift: dict[str, Any] | None) -> bool | None:
        return None if drift is None else bool(drift["drifted"])

    return {
        "data_drifted": bool(data["drifted"]) if data["enough"] else None,
        "drifted_features_ratio": data["drifted_share"] if data["enough"] else None,
        "target_drifted": drifted(target["labels"]),
        "confidence_drifted": drifted(target["confidence"]),
        "accuracy": last["classification"]["accuracy"],
        "accuracy_estimate": last["estimate"]["accuracy"],
        "rows": last["rows"],
        "ledger_difference": said["ledger"]["difference"],
        "alarms": [
            {
                "cause": alarm["cause"],
                "scope": alarm["scope"],
                "device": alarm["device"],
                "axes": alarm["axes"],
                "text": alarm["text"],
                "advice": alarm["advice"],
                "certainty": alarm["certainty"],
                "since_s": round(alarm["since"] - origin_s, 3),
                "raised_s": round(alarm["raised"] - origin_s, 3),
                "ended_s": None if alarm.get("ended") is None else round(alarm["ended"] - origin_s, 3),
            }
            for alarm in sorted(said["alarms"], key=lambda a: a["raised"])
        ],
    }
