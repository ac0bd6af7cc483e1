"""Exports as apps and data sets write them, all of one made-up movement, for the tests of the importer."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from scipy.spatial.transform import Rotation

from repstream.arrays import FloatArray

G = 9.80665
EPOCH_NS = 1_760_565_906_000_000_000


@dataclass(frozen=True)
class Motion:
    """A wrist that turns and is pushed about.

    Attributes
    ----------
    t : ndarray, shape (n,)
        s.
    gravity, user : ndarray, shape (n, 3)
        g, of the force that holds the sensor up, as Android has it.
    gyro : ndarray, shape (n, 3)
        rad/s.
    quaternions : ndarray, shape (n, 4)
        x, y, z, w, from the device to the world.
    """

    t: FloatArray
    gravity: FloatArray
    user: FloatArray
    gyro: FloatArray
    quaternions: FloatArray

    @property
    def accel(self) -> FloatArray:
        """With gravity, g."""
        return self.gravity + self.user


def motion(
    seconds: float = 12.0,
    rate_hz: float = 50.0,
    turns: tuple[float, float, float] = (40.0, 25.0, 10.0),
    rates: tuple[float, float, float] = (2.1, 1.3, 0.7),
) -> Motion:
    """Make one, the same each time; `turns` in °/s, as fast as `rates` in rad/s."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    steps = np.array(turns) * np.cos(np.outer(t, rates)) * np.pi / 180
    turned = Rotation.from_euler("xyz", [20.0, -30.0, 10.0], degrees=True)
    quaternions = np.empty((len(t), 4))
    for i, step in enumerate(steps):
        quaternions[i] = turned.as_quat()
        turned = turned * Rotation.from_rotvec(step / rate_hz)
    up = Rotation.from_quat(quaternions).inv().apply([0.0, 0.0, 1.0])
    user = 0.15 * np.sin(np.outer(t, [7.0, 9.0, 11.0]))
    user *= (t[:, None] % 6.0) < 4.0  # calm in between
    return Motion(t, up, user, steps, quaternions)


def table(path: Path, header: str, *columns: object, delimiter: str = ",", decimal: str = ".") -> Path:
    """Write a table of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        delimiter.join(str(cell) if isinstance(cell, str) else _number(cell, decimal) for cell in row)
        for row in zip(*columns, strict=True)
    ]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def _number(value: object, decimal: str) -> str:
    text = str(value) if isinstance(value, int | np.integer) else repr(float(value))  # type: ignore[arg-type]
    return "" if text == "nan" else text.replace(".", decimal)


def sensor_logger_phone(
    folder: Path,
    m: Motion,
    *,
    ios: bool,
    standardised: bool = False,
    metadata: bool = True,
    device: str = "Anna's phone",
) -> Path:
    """Phone: acceleration without gravity, gravity apart; columns in z, y, x; on Android the total, too."""
    sign = -1.0 if ios and not standardised else 1.0
    ns, s = EPOCH_NS + np.rint(m.t * 1e9).astype(int), m.t
    # Each sensor on a clock of its own.
    for name, values, late_ns in (
        ("Accelerometer", sign * G * m.user, 0),
        ("Gravity", sign * G * m.gravity, 3_000_000),
        ("Gyroscope", m.gyro, 7_000_000),
        *((("TotalAcceleration", G * m.accel, 1_000_000),) if not ios else ()),
    ):
        table(folder / f"{name}.csv", "time,seconds_elapsed,z,y,x", ns + late_ns, s, *values.T[::-1])
    table(folder / "Magnetometer.csv", "time,seconds_elapsed,z,y,x", ns, s, *np.ones((3, len(s))))
    if metadata:
        platform = "ios" if ios else "android"
        row = f"1,{platform},{'true' if standardised else 'false'},{device}"
        (folder / "Metadata.csv").write_text(f"version,platform,standardisation,device name\n{row}\n")
    return folder


def sensor_logger_watch(folder: Path, m: Motion) -> Path:
    """Apple Watch: all in one table, in g, with iOS's sign."""
    names = [f"{kind}{a}" for kind in ("rotationRate", "gravity", "acceleration") for a in "XYZ"]
    names += [f"quaternion{a}" for a in "WXYZ"]
    ns = EPOCH_NS + np.rint(m.t * 1e9).astype(int)
    columns = [*m.gyro.T, *(-m.gravity).T, *(-m.user).T, *m.quaternions[:, [3, 0, 1, 2]].T]
    table(folder / "WristMotion.csv", ",".join(["time", "seconds_elapsed", *names]), ns, m.t, *columns)
    return folder


def sensor_logger_json(path: Path, m: Motion) -> Path:
    """Android, everything in one array, numbers as text."""
    entries: list[dict[str, object]] = [{"sensor": "Metadata", "platform": "android", "device name": "Pixel"}]
    for name, values in (("TotalAcceleration", G * m.accel), ("Gyroscope", m.gyro)):
        for t, (x, y, z) in zip(m.t, values, strict=True):
            ns = EPOCH_NS + round(t * 1e9)
            entry = {"sensor": name, "time": str(ns), "seconds_elapsed": str(t), "z": str(z), "y": str(y), "x": str(x)}
            entries.append(dict(entry))
    path.write_text(json.dumps(entries))
    return path


def gym(folder: Path) -> Path:
    """Three people, three exercises, two sets of each: the app's archives in folders named PERSON/EXERCISE."""
    exercises = {
        "biceps curl": ((110.0, 5.0, 10.0), (3.1, 1.0, 1.0)),
        "lateral raise": ((5.0, 90.0, 20.0), (1.0, 2.2, 1.0)),
        "external rotation": ((10.0, 15.0, 120.0), (1.0, 1.0, 4.4)),
    }
    minute = 0
    for pace, person in ((0.9, "anna"), (1.0, "ben"), (1.15, "carla")):
        for exercise, (turns, rates) in exercises.items():
            for effort in (0.95, 1.1):
                m = motion(20.0, 50.0, tuple(t * effort for t in turns), tuple(r * pace for r in rates))  # type: ignore[arg-type]
                made = sensor_logger_phone(folder / "made", m, ios=False, device=f"{person}'s phone")
                target = folder / person / exercise / f"2025-10-15_18-{minute:02}-11"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.make_archive(str(target), "zip", made)
                shutil.rmtree(made)
                minute += 2
    return folder


def phyphox(folder: Path, m: Motion, delimiter: str = ",", decimal: str = ".") -> Path:
    """One table for each sensor, units in the header, and the app's own notes."""

    def header(what: str, unit: str) -> str:
        return delimiter.join(f'"{name}"' for name in ("Time (s)", *(f"{what} {a} ({unit})" for a in "xyz")))

    style = {"delimiter": delimiter, "decimal": decimal}
    table(folder / "Accelerometer.csv", header("Acceleration", "m/s^2"), m.t, *(G * m.accel).T, **style)  # type: ignore[arg-type]
    table(folder / "Gyroscope.csv", header("Gyroscope", "rad/s"), m.t + 0.004, *m.gyro.T, **style)  # type: ignore[arg-type]
    table(folder / "meta" / "time.csv", '"event","experiment time"', ["START"], [0.0])
    return folder


def metamotion(folder: Path, m: Motion, accel_every: int = 4, gyro_every: int = 2) -> Path:
    """Two tables at two rates, what they are of in their names."""
    stem = "A-bench-heavy1_MetaWear_2019-01-11T16.10.08.270_C42732BE255C"
    ms = EPOCH_NS // 1_000_000 + np.rint(m.t * 1e3).astype(int)
    for name, values, unit, every in (
        ("Accelerometer_12.500Hz_1.4.4", m.accel, "g", accel_every),
        ("Gyroscope_25.000Hz_1.4.4", np.degrees(m.gyro), "deg/s", gyro_every),
    ):
        header = "epoch (ms),time (01:00),elapsed (s)," + ",".join(f"{a}-axis ({unit})" for a in "xyz")
        clock = ["2019-01-11T16:10:08.270"] * len(m.t[::every])
        table(folder / f"{stem}_{name}.csv", header, ms[::every], clock, m.t[::every], *values[::every].T)
    return folder


def motionsense(folder: Path, m: Motion) -> Path:
    """An iPhone's device motion, without a clock."""
    names = [f"{kind}.{a}" for kind in ("gravity", "rotationRate", "userAcceleration") for a in "xyz"]
    numbers = np.arange(len(m.t))
    columns = [*(-m.gravity).T, *m.gyro.T, *(-m.user).T]
    table(folder / "wlk_7" / "sub_3.csv", ",".join(["", *names]), numbers, *columns)
    return folder


def spar(folder: Path, m: Motion) -> Path:
    """As the authors publish it."""
    table(folder / "S3_E6_R.csv", "ax,ay,az,wx,wy,wz", *m.accel.T, *m.gyro.T)
    return folder


def uci_hapt(folder: Path, m: Motion) -> Path:
    """Raw tables without header and clock, labels in a table of intervals."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "acc_exp04_user02.txt", m.accel, fmt="%.17g")
    np.savetxt(folder / "gyro_exp04_user02.txt", m.gyro, fmt="%.17g")
    np.savetxt(folder / "labels.txt", [[4, 2, 5, 1, 200], [4, 2, 7, 201, 300], [9, 2, 1, 1, 600]], fmt="%d")
    return folder


def uci_har(folder: Path, sessions: list[tuple[int, Motion]]) -> Path:
    """Windows of 128 with half overlap of several people, one after the other."""
    inside = folder / "train" / "Inertial Signals"
    inside.mkdir(parents=True)
    windows, subjects = [], []
    for subject, m in sessions:
        values = np.hstack([m.accel, m.gyro])
        for start in range(0, len(values) - 127, 64):
            windows.append(values[start : start + 128])
            subjects.append(subject)
    stacked = np.stack(windows)
    names = [f"{sensor}_{axis}" for sensor in ("total_acc", "body_gyro") for axis in "xyz"]
    for i, name in enumerate(names):
        np.savetxt(inside / f"{name}_train.txt", stacked[:, :, i], fmt="%.17g")
    np.savetxt(folder / "train" / "subject_train.txt", subjects, fmt="%d")
    np.savetxt(folder / "train" / "y_train.txt", np.full(len(subjects), 5), fmt="%d")
    return folder


def recofit(path: Path, visits: dict[tuple[int, int], list[Motion]], *, compressed: bool = True) -> Path:
    """MATLAB 5: cells of structs; by (subject, file) as many visits as there are motions."""
    cells = np.empty((len(visits), 1), dtype=object)
    for i, ((subject, file), motions) in enumerate(visits.items()):
        kind = [(n, object) for n in ("subjectID", "fileIndex", "activityStartMatrix", "data")]
        cell = np.empty((1, len(motions)), dtype=kind)
        for j, m in enumerate(motions):
            rows = np.empty((2, 7), dtype=object)
            middle, end = float(m.t[len(m.t) // 2]), float(m.t[-1])
            rows[0] = ["Non-Exercise", 0.0, middle, "", -1.0, 0.0, 1.0]
            rows[1] = ["Bicep Curl", middle + 0.001, end, "", 10.0, middle, 2.0]
            # Its step is 19.99987 ms.
            t = m.t[:, None] * 0.9999935
            data = {"accelDataMatrix": np.hstack([t, m.accel]), "gyroDataMatrix": np.hstack([t, np.degrees(m.gyro)])}
            cell[0, j] = (float(subject), float(file), rows, data)
        cells[i, 0] = cell
    groups = np.empty((1, 2), dtype=object)
    names = np.empty((1, 2), dtype=object)
    names[0] = ["Bicep Curl", "Hammer Curl"]
    groups[0] = ["Curl", names]
    contents = {"exerciseConstants": {"usefulActivityGroupings": groups}, "subject_data": cells}
    scipy.io.savemat(path, contents, do_compression=compressed)
    return path


def recofit_hdf5(path: Path, visits: dict[tuple[int, int], list[Motion]]) -> Path:
    """MATLAB 7.3: the same in HDF5, where arrays are transposed, and cells and structs hold references."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_group("#refs#")

        def put(value: FloatArray | str | list[list[object]]) -> object:
            name = f"r{len(references)}"
            if isinstance(value, str):
                references[name] = np.array([[ord(c)] for c in value] or [[0, 0]], dtype=np.uint16)
                references[name].attrs["MATLAB_empty"] = 0 if value else 1
            elif isinstance(value, list):
                references.create_dataset(name, data=np.array(value, dtype=object).T, dtype=h5py.ref_dtype)
            else:
                references[name] = np.asarray(value, dtype=np.float64).T
            return references[name].ref

        def scalar(value: float) -> FloatArray:
            return np.array([[value]])

        cells = []
        for (subject, number), motions in visits.items():
            fields: dict[str, list[object]] = {"subjectID": [], "fileIndex": [], "activityStartMatrix": [], "data": []}
            for m in motions:
                middle, end = float(m.t[len(m.t) // 2]), float(m.t[-1])
                rows = [
                    [
                        put(name),
                        put(scalar(a)),
                        put(scalar(b)),
                        put(""),
                        put(scalar(10)),
                        put(scalar(a)),
                        put(scalar(1)),
                    ]
                    for name, a, b in (("Non-Exercise", 0.0, middle), ("Bicep Curl", middle + 0.001, end))
                ]
                inner = references.create_group(f"r{len(references)}")
                t = m.t[:, None] * 0.9999935
                inner["accelDataMatrix"] = np.hstack([t, m.accel]).T
                inner["gyroDataMatrix"] = np.hstack([t, np.degrees(m.gyro)]).T
                fields["subjectID"].append(put(scalar(subject)))
                fields["fileIndex"].append(put(scalar(number)))
                fields["activityStartMatrix"].append(put(rows))
                fields["data"].append(inner.ref)
            cell = references.create_group(f"r{len(references)}")
            for name, found in fields.items():
                if len(motions) > 1:
                    cell.create_dataset(name, data=np.array([found], dtype=object), dtype=h5py.ref_dtype)
                else:
                    cell[name] = file[found[0]]
            cells.append(cell.ref)
        file.create_dataset("subject_data", data=np.array([cells], dtype=object), dtype=h5py.ref_dtype)
        groups = file.create_group("exerciseConstants")
        pairs = [[put("Curl")], [put([[put("Bicep Curl")], [put("Hammer Curl")]])]]
        groups.create_dataset("usefulActivityGroupings", data=np.array(pairs, dtype=object), dtype=h5py.ref_dtype)
    return path
