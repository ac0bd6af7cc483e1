"""How well faults are found: many seeded runs over recordings of people that nothing was learned from.

Each run is one device's wear as `training.alarms.wear` draws it: sessions in random order, the watch sitting a little
differently each time. A fault is put in by the producer's own code, in the midst of a session. Time is event
time: hours of wear take minutes. The same rows go to the alarms of the monitor, to Evidently's drift test with
its own defaults over a buffered window, and to two dummies.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monitor.drift.checks import data_drift
from monitor.drift.reference import Reference, load_reference
from producer.faults.injector import Injector
from producer.faults.parse import parse_fault
from repstream.alarms.files import DriftModel, load_drift
from repstream.alarms.recogniser import VARIANTS
from repstream.alarms.sums import Calibration, DeviceDrift
from repstream.arrays import FloatArray
from repstream.errors import ModelError
from repstream.faults.causes import CAUSE_OF
from repstream.features.summary import EVERY_S
from repstream.recognition.model import Model, load_model
from repstream.recordings.recording import Recording
from repstream.windows.cut import cut
from training.alarms.calibrate import FALSE_ALARMS_A_DAY
from training.alarms.learn import learn, prepare
from training.alarms.recogniser import HOP
from training.alarms.wear import ROWS_AN_HOUR, Judge, false_alarms, resample, sessions
from training.recipes import find_recipe
from training.train import without_labels

Progress = Callable[[str], None]
Figures = dict[str, Any]

_WARM_S = (120.0, 1200.0)  # stable wear before a fault begins
_LOOK_S = 300.0  # how long a fault is looked for before it counts as missed
_EPOCH_US = 1_763_700_000_000_000

# Evidently's defaults for more than 1,000 reference rows: normed Wasserstein distance from 0.1 on, half of the columns.
_EVIDENTLY_THRESHOLD, _EVIDENTLY_SHARE = 0.1, 0.5
_EVIDENTLY_ROWS, _EVIDENTLY_EVERY = 200, 20  # windows in the buffer; windows from one test to the next (30 s)


@dataclass(frozen=True)
class Case:
    """A fault as ``--inject`` has it, but for the times, and how soon it should be found, s."""

    name: str
    spec: str
    aim_s: float | None = None

    @property
    def cause(self) -> str:
        """The cause that is right for it."""
        return CAUSE_OF[self.spec.partition(":")[0]]


CASES = (
    Case("rotated 90° about x", "rotate:90,x", 30.0),
    Case("rotated 90° about y", "rotate:90,y", 30.0),
    Case("rotated 90° about z", "rotate:90,z", 30.0),
    Case("rotated 180° about z", "rotate:180,z", 30.0),
    Case("rotated 120° about (1, 1, 1)", "rotate:120,1,1,1", 30.0),
    Case("rotated 45° about z", "rotate:45,z"),
    Case("rotated 30° about z", "rotate:30,z"),
    Case("turning to 90° over 60 s", "rotate:90,z~60"),
    Case("other wrist", "swap-wrist", 30.0),
    Case("gain 1.2, both", "gain:1.2,both", 120.0),
    Case("gain 1.2, accelerometer", "gain:1.2,accel", 120.0),
    Case("gain 1.2, gyroscope", "gain:1.2,gyro", 120.0),
    Case("gain 0.8, both", "gain:0.8,both", 120.0),
    Case("gain 2, both", "gain:2,both"),
    Case("offset 0.3 g", "offset:0.3,accel"),
    Case("offset 40 °/s, one axis", "offset:40,gyro_x"),
    Case("noise 0.3 g", "noise:0.3,accel"),
    Case("noise 20 °/s", "noise:20,gyro"),
    Case("clipped at 1 g", "clip:1,accel"),
    Case("clipped at 60 °/s", "clip:60,gyro"),
    Case("stuck, both", "stuck", 30.0),
    Case("stuck, one axis", "stuck:gyro_y", 30.0),
    Case("units, both", "units", 30.0),
    Case("units, accelerometer", "units:accel", 30.0),
    Case("units, gyroscope", "units:gyro", 30.0),
    Case("25 Hz sent as 50", "rate:25"),
)


@dataclass(frozen=True, eq=False)
class _Knowledge:
    """What is known of one device: all its recordings, and what judges and raises alarms."""

    judge: Judge
    calibration: Calibration
    recordings: list[Recording]


@dataclass(frozen=True)
class _Run:
    """One run with a fault: whether an alarm was on before, delay and cause of the first one after."""

    early: bool
    delay_s: float | None
    cause: str | None


def drift(progress: Progress, hours: float = 24.0, runs: int = 4, processes: int = 2, seed: int = 0) -> Figures:
    """Measure false alarms, delays, misses and causes.

    Parameters
    ----------
    hours : float
        Stable wear of each device, h.
    runs : int
        Runs of each device with each fault.
    processes : int
        That work side by side.

    Raises
    ------
    ModelError
        Where the default model has nothing to raise alarms by.
    """
    model = load_model("spar")
    found = load_drift(model)
    if found is None:
        raise ModelError(f"{model.id} has nothing to raise alarms by; make it with: repstream calibrate")
    recordings = [r for r in _catalogue() if r.subject in model.card["subjects"]["held_out"]]
    devices = sorted({r.device for r in recordings})
    known = {
        d: _Knowledge(_judge(model, found), found.calibration, [r for r in recordings if r.device == d])
        for d in devices
    }
    reference = load_reference(model)
    figures: Figures = {"devices": len(devices), "hours": hours, "runs": runs * len(devices), "seed": seed}
    with ProcessPoolExecutor(processes) as pool:
        progress(f"drift: {hours:g} h of stable wear of each of {len(devices)} devices")
        figures["stable"] = _stable(list(pool.map(_wear, [(known[d], hours, seed + i) for i, d in enumerate(devices)])))
        figures["cases"] = []
        for case in CASES:
            progress(f"drift: {case.name}")
            tasks = [(known[d], case, seed + 1000 * n + i) for n in range(runs) for i, d in enumerate(devices)]
            figures["cases"].append(_summary(case, list(pool.map(_with_fault, tasks))))
        progress("drift: an exercise that was held out of training, one after the other")
        for case, outcome in pool.map(_unknown, [(model, found, label, runs, seed) for label in model.labels]):
            figures["cases"].append(_summary(case, outcome))
        progress("drift: Evidently's default test on the same wear")
        figures["evidently"] = _evidently_figures(
            list(
                pool.map(_evidently, [(known[d], reference, min(hours, 2.0), seed + i) for i, d in enumerate(devices)])
            )
        )
    figures["never"] = {"false_alarms_per_24_h": 0.0, "misses": 1.0}
    figures["always"] = {"false_alarms_per_24_h": 24.0 * ROWS_AN_HOUR, "misses": 0.0, "delay_s": EVERY_S}
    return figures


def _catalogue() -> list[Recording]:
    from repstream.recordings.catalogue import resolve

    return resolve(["spar/*"])


def _judge(model: Model, found: DriftModel) -> Judge:
    return Judge(found.recogniser, found.novelty, model.features.name, model.estimator, model.window)


def _wear(task: tuple[_Knowledge, float, int]) -> Figures:
    """Wear without a fault: when alarms began."""
    known, hours, seed = task
    wear = resample(known.judge, known.recordings, hours, seed)
    alarms = [(at_s, VARIANTS[variant].cause) for at_s, variant in false_alarms(wear, known.calibration)]
    return {"device": wear.device, "hours": wear.hours, "alarms": alarms}


def _stable(found: Sequence[Figures]) -> Figures:
    alarms = [a for f in found for a in f["alarms"]]
    hours = sum(f["hours"] for f in found)
    low, high = _poisson_interval(len(alarms))
    return {
        "hours": hours,
        "false_alarms": len(alarms),
        "in_the_first_hour": sum(at_s < 3600.0 for at_s, _ in alarms),
        "per_24_h": len(alarms) / hours * 24.0,
        "interval": [low / hours * 24.0, high / hours * 24.0],
        "causes": dict(Counter(cause for _, cause in alarms)),
        "by_device": {f["device"]: len(f["alarms"]) for f in found},
        "budget": FALSE_ALARMS_A_DAY,
    }


def _poisson_interval(n: int) -> tuple[float, float]:
    """Exact 95 % interval of a count's mean (F. Garwood, Biometrika 28, 1936)."""
    from scipy.stats import chi2

    return (float(chi2.ppf(0.025, 2 * n)) / 2.0 if n else 0.0), float(chi2.ppf(0.975, 2 * n + 2)) / 2.0


def _with_fault(task: tuple[_Knowledge, Case, int]) -> _Run:
    known, case, seed = task
    rng = np.random.default_rng(seed)
    warm_s = float(rng.uniform(*_WARM_S))
    injector = Injector([parse_fault(f"{case.spec}@{warm_s}")], seed, known.recordings[0].device, _EPOCH_US, Counter())
    return _follow(known, known.recordings, injector, warm_s, rng)


def _follow(
    known: _Knowledge,
    before: Sequence[Recording],
    injector: Injector | None,
    warm_s: float,
    rng: np.random.Generator,
    after: Sequence[Recording] = (),
) -> _Run:
    """Wear until an alarm begins after `warm_s`; from then on `after`'s sessions, where there are any."""
    device = DeviceDrift()
    start_s, on = 0.0, False
    fault_s = math.inf if after else warm_s
    drawn, then = sessions(before, rng), sessions(after, rng) if after else None
    while start_s < fault_s + _LOOK_S:
        if then is not None and start_s >= warm_s:
            drawn, then, fault_s = then, None, start_s  # a new exercise begins with its session
        session = next(drawn)
        if injector is not None:
            session = _injected(session, injector, start_s)
        for k, (row, exercise) in enumerate(zip(*known.judge.rows(session), strict=True)):
            # The window's last sample; sessions follow each other without a pause.
            at_s = start_s + k * HOP / 50.0 + (known.judge.window - 1) / 50.0
            if at_s >= fault_s + _LOOK_S:
                break
            if on and at_s >= fault_s:
                return _Run(True, None, None)
            change = device.step(row, exercise, at_s, known.calibration)
            if change is not None:
                on = change.began
                if on and at_s >= fault_s:
                    return _Run(False, at_s - fault_s, VARIANTS[change.variant].cause)
        start_s += session.n_samples / 50.0
    return _Run(False, None, None)


def _injected(session: Recording, injector: Injector, start_s: float) -> Recording:
    times = session.times_us
    signal = injector.on_session(session, session.session, _EPOCH_US + round(start_s * 1e6), times)
    return session if signal is None else replace(session, values=signal.values(0, session.n_samples))


def _unknown(task: tuple[Model, DriftModel, str, int, int]) -> tuple[Case, list[_Run]]:
    """All that is learned, learned without one exercise, which people do then."""
    model, found, label, runs, seed = task
    everyone = _catalogue()
    train = [r for r in everyone if r.subject in model.card["subjects"]["train"]]
    judge = learn(prepare(find_recipe(str(model.card["recipe"])), without_labels(train, [label]), model.window, seed))
    # As far as known movement of new people lies from it: as with the whole model.
    held_out = [r for r in everyone if r.subject in model.card["subjects"]["held_out"]]
    novelty = replace(judge.novelty, usual=found.novelty.usual, far=found.novelty.far)
    outcome = []
    case = Case(f"new exercise {label}", f"new-exercise:{label}", 60.0)
    for i, name in enumerate(sorted({r.device for r in held_out})):
        mine = [r for r in held_out if r.device == name]
        known = _Knowledge(replace(judge, novelty=novelty), found.calibration, mine)
        new = [r for r in mine if r.labels is not None and (r.labels == label).all()]
        for n in range(runs):
            rng = np.random.default_rng(seed + 1000 * n + i)
            old = without_labels(mine, [label])
            outcome.append(_follow(known, old, None, float(rng.uniform(*_WARM_S)), rng, new))
    return case, outcome


def _summary(case: Case, runs: Sequence[_Run]) -> Figures:
    fair = [r for r in runs if not r.early]
    delays = [r.delay_s for r in fair if r.delay_s is not None]
    aim = case.aim_s
    return {
        "name": case.name,
        "spec": case.spec,
        "runs": len(fair),
        "alarm_on_before": len(runs) - len(fair),
        "missed": (len(fair) - len(delays)) / len(fair) if fair else math.nan,
        "median_s": float(np.median(delays)) if delays else math.nan,
        "p90_s": float(np.percentile(delays, 90)) if delays else math.nan,
        "aim_s": aim,
        "within_aim": None if aim is None or not fair else sum(d <= aim for d in delays) / len(fair),
        "right_cause": sum(r.cause == case.cause for r in fair) / len(delays) if delays else math.nan,
        "causes": dict(Counter(r.cause for r in fair if r.cause is not None).most_common(4)),
    }


def _evidently(task: tuple[_Knowledge, Reference, float, int]) -> tuple[int, int, float]:
    """Evidently's test on stable wear: how often it began to say "drift", how often it did, of how many hours."""
    known, reference, hours, seed = task
    model = known.judge
    rows: list[FloatArray] = []
    at_s, began, drifted, tests = 0.0, 0, 0, 0
    was = False
    for session in sessions(known.recordings, np.random.default_rng(seed)):
        windows = cut(session, model.window, HOP)
        features: FloatArray = model.features.compute(windows.values, windows.sides)
        for row in features:
            at_s += EVERY_S
            rows = [*rows[-_EVIDENTLY_ROWS + 1 :], row]
            if len(rows) == _EVIDENTLY_ROWS and round(at_s / EVERY_S) % _EVIDENTLY_EVERY == 0:
                tests += 1
                now = data_drift(
                    reference, np.array(rows), threshold=_EVIDENTLY_THRESHOLD, share=_EVIDENTLY_SHARE
                ).drifted
                began += now and not was
                drifted += now
                was = now
        if at_s >= hours * 3600.0:
            break
    return began, drifted, tests


def _evidently_figures(found: Sequence[tuple[int, int, float]]) -> Figures:
    tests = sum(t for *_, t in found)
    return {
        "tests": tests,
        "share_of_stable_wear_called_drift": sum(d for _, d, _ in found) / tests,
        "devices_called_drifted_at_once": sum(d > 0 for _, d, _ in found),
        "devices": len(found),
    }


def report(figures: Figures) -> str:
    """Figures as Markdown, for docs/results.md."""
    stable, evidently = figures["stable"], figures["evidently"]
    low, high = stable["interval"]
    lines = [
        f"Stable wear: {stable['hours']:.0f} h of {figures['devices']} devices, {stable['false_alarms']} false alarms, "
        f"{stable['per_24_h']:.2f} in 24 h (95 % interval {low:.2f}-{high:.2f}; budget {stable['budget']:g}), "
        f"{stable['in_the_first_hour']} of them in a device's first hour. Evidently's default test over the last "
        f"{_EVIDENTLY_ROWS} windows calls {evidently['share_of_stable_wear_called_drift']:.0%} of stable wear drift, "
        f"on {evidently['devices_called_drifted_at_once']} of {evidently['devices']} devices. Always-fire: "
        f"{figures['always']['false_alarms_per_24_h']:,.0f} in 24 h; never-fire: none, and every fault missed.",
        "",
        "| fault | runs | missed | median, s | p90, s | aim, s | within it | right cause | called |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for c in figures["cases"]:
        aim = "" if c["aim_s"] is None else f"{c['aim_s']:.0f}"
        within = "" if c["within_aim"] is None else f"{c['within_aim']:.0%}"
        called = ", ".join(f"{cause} {n}" for cause, n in c["causes"].items())
        lines.append(
            f"| {c['name']} | {c['runs']} | {c['missed']:.0%} | {_shown(c['median_s'])} | {_shown(c['p90_s'])} | {aim} | "
            f"{within} | {_shown(c['right_cause'], '.0%')} | {called} |"
        )
    return "\n".join([*lines, ""])


def _shown(value: float, form: str = ".0f") -> str:
    return format(value, form) if math.isfinite(value) else ""
