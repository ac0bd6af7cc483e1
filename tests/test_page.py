"""The page's HTTP: who may come in, what it refuses and how, what may be run in a browser."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from monitor.drift.passes import PassWorker
from monitor.live.observer import LiveObserver
from monitor.live.upload_worker import ImportRequest, Question, answer
from monitor.live.uploads import ENDINGS, MOST_BYTES, NothingImportedError, Uploads
from monitor.page.access import HEADER, Access, RateLimit, RefusedError, is_loopback
from monitor.page.app import close_app, create_app
from monitor.page.routes import STATIC
from monitor.reports.maker import ReportMaker
from monitor.service import Monitor
from monitor.settings import MonitorSettings
from repstream.errors import RecordingError, SettingsError
from repstream.kafka.connection import KafkaConnection
from repstream.recognition.model import load_model
from repstream.recordings.axes import AXES
from tests.exports import metamotion, motion, phyphox, sensor_logger_phone, sensor_logger_watch
from tests.support import make_recording, rows_of, write_csv

TOKEN = "a-token-of-some-length"
OURS = {HEADER: "1"}
NOWHERE = KafkaConnection("127.0.0.1:1")


@pytest.fixture(scope="module")
def monitor() -> Iterator[Monitor]:
    """Return a monitor that has not begun to work; nothing of it needs a Kafka."""
    worker = PassWorker(load_model("spar"))
    yield Monitor(load_model("spar"), NOWHERE, MonitorSettings(), worker, CollectorRegistry(), lambda: True)
    worker.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportMaker]:
    maker = ReportMaker(tmp_path_factory.mktemp("reports"), 3)
    yield maker
    maker.close()


@contextlib.contextmanager
def app_with(monitor: Monitor, reports: ReportMaker, access: Access) -> Iterator[FlaskClient]:
    observer = LiveObserver(monitor.model, monitor.settings.monitoring)
    app = create_app(monitor, observer, CollectorRegistry(), reports, lambda: (True, "alive"), access)
    app.testing = False  # a failure is to be answered as it would be in earnest
    yield app.test_client()
    close_app(app)


@pytest.fixture
def client(monitor: Monitor, reports: ReportMaker) -> Iterator[FlaskClient]:
    with app_with(monitor, reports, Access()) as client:
        yield client


@pytest.fixture
def guarded(monitor: Monitor, reports: ReportMaker) -> Iterator[FlaskClient]:
    with app_with(monitor, reports, Access(TOKEN)) as client:
        yield client


def error_of(answer: TestResponse) -> str:
    return str(json.loads(answer.data)["error"])


def test_the_page_runs_nothing_but_its_own_files_and_asks_nobody_else(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    html = answer.get_data(as_text=True)
    assert "<script>" not in html
    for file in STATIC.rglob("*"):
        if file.suffix in (".js", ".css", ".html") and "vendor" not in file.parts:
            text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text, f"{file.name} names an address"


def test_all_that_the_page_loads_is_less_than_half_a_megabyte(client: FlaskClient) -> None:
    paths = ["/", "/palette.css", "/palette.json", *(f"/static/{f.relative_to(STATIC)}" for f in STATIC.rglob("*.*"))]
    sizes = {path: len(client.get(path).data) for path in paths if not path.endswith(("LICENSE", "VERSIONS"))}
    assert min(sizes.values()) > 0
    assert sum(sizes.values()) < 500_000, sizes


def test_what_is_vendored_has_its_licence_and_version() -> None:
    versions = (STATIC / "vendor" / "VERSIONS").read_text(encoding="utf-8")
    for file in (STATIC / "vendor").iterdir():
        assert file.name in versions or file.name == "VERSIONS"
    assert "MIT" in (STATIC / "vendor" / "uPlot.LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "127.0.0.2"])
def test_on_loopback_nothing_is_asked_for(client: FlaskClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "0.0.0.0", "[", "a b"])
def test_a_name_that_was_made_to_point_here_is_refused(client: FlaskClient, host: str) -> None:
    for path in ("/", "/events?view=everyone", "/monitoring", "/palette.json"):
        assert client.get(path, headers={"Host": host}).status_code in (400, 403), path


def test_beyond_loopback_nothing_is_shown_without_the_token_but_health_and_metrics(guarded: FlaskClient) -> None:
    for path in ("/", "/static/main.js", "/events?view=everyone", "/monitoring", "/reports/", "/report", "/nowhere"):
        answer = guarded.get(path)
        assert answer.status_code == 401, path
        assert b"token" in answer.data
    assert guarded.post("/control", headers=OURS).status_code == 401
    assert guarded.post("/upload?name=a.csv", headers=OURS).status_code == 401
    for path in ("/healthz", "/livez", "/metrics", "/readyz"):
        assert guarded.get(path).status_code in (200, 503), path
    for wrong in ("", "wrong", TOKEN[:-1], TOKEN + "x", "ü" * 20):
        assert guarded.get("/", query_string={"token": wrong}).status_code == 401
        assert (
            guarded.get(
                "/monitoring", headers={"Authorization": f"Bearer {wrong}".encode().decode("latin-1")}
            ).status_code
            == 401
        )


def test_the_printed_address_lets_a_browser_in_and_keeps_the_token_out_of_the_address_bar(guarded: FlaskClient) -> None:
    answer = guarded.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert "Secure" not in cookie, "plain HTTP would lose it"
    behind_tls = guarded.get(f"/?token={TOKEN}", headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in behind_tls.headers["Set-Cookie"]
    assert guarded.get("/").status_code == 200
    assert guarded.get("/monitoring").status_code == 200
    assert guarded.post("/control", data="{}").status_code == 403, "a cookie alone changes nothing"


def test_a_program_comes_in_with_the_token_as_bearer(guarded: FlaskClient) -> None:
    head = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/monitoring", headers=head).status_code == 200
    assert guarded.post("/control", data="{}", headers=head).status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {HEADER: "0"},
        {HEADER: "1", "Origin": "http://evil.example"},
        {HEADER: "1", "Origin": "null"},
        {HEADER: "1", "Origin": "http://localhost:1"},
        {HEADER: "1", "Sec-Fetch-Site": "cross-site"},
        {HEADER: "1", "Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/control", "/upload?name=a.csv", "/upload/x/import", "/upload/x/replay"])
def test_another_page_in_the_same_browser_changes_nothing(
    client: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    assert client.post(path, data="{}", headers=headers).status_code == 403


@pytest.mark.slow
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("mode", ["no-cors", "navigate"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/report", "/report?n=5", "/events?view=status", "/events?wearer=w"])
def test_another_site_makes_no_report_and_opens_no_stream_not_even_by_a_link(
    client: FlaskClient, path: str, method: str, mode: str, site: str
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert client.open(path, method=method, headers=headers).status_code == 403


def test_another_site_may_link_to_the_page_and_embed_nothing_of_it(client: FlaskClient) -> None:
    for path in ("/", "/reports/", "/static/main.js"):
        assert (
            client.get(path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200
        )
        assert (
            client.get(path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status_code == 403
        )
        assert client.get(path, headers={"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}).status_code == 200


def test_a_report_is_made_for_a_program_and_for_our_own_page_but_not_for_a_look_at_its_headers(
    client: FlaskClient, reports: ReportMaker
) -> None:
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}):
        answer = client.get("/report?n=5", headers=headers)
        assert (answer.status_code, b"no windows" in answer.data) == (503, True), "it was asked for"
        assert client.head("/report?n=5", headers=headers).status_code == 200
    assert reports.list() == []


def test_addresses_that_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.4", "host", "")))
    assert Access.on("127.0.0.1", None).token is None
    made = Access.on("0.0.0.0", None).token
    assert made is not None
    assert len(made) >= 32
    assert made not in repr(Access(made))
    with pytest.raises(SettingsError, match="at least 16 characters"):
        Access("short")


def test_too_many_requests_are_told_when_to_come_again() -> None:
    now = 0.0
    limit = RateLimit(2, 10.0, "files", lambda: now)
    for _ in range(2):
        limit.take("a")
    with pytest.raises(RefusedError) as refused:
        limit.take("a")
    assert (refused.value.status, refused.value.retry_s) == (429, 11)
    limit.take("b")
    now = 10.1
    limit.take("a")


def test_too_many_files_in_a_minute_are_refused(client: FlaskClient) -> None:
    codes = [client.post("/upload?name=a.exe", headers=OURS).status_code for _ in range(21)]
    assert codes == [422] * 20 + [429]
    codes = [client.post("/upload/x/import", data="{}", headers=OURS).status_code for _ in range(21)]
    assert codes == [404] * 20 + [429]


def test_a_command_to_a_replay_that_is_not_there_says_how_to_start_one(client: FlaskClient) -> None:
    answer = client.post("/control", json={"producer": "p", "action": "pause"}, headers=OURS)
    assert answer.status_code == 404
    assert "--controllable" in error_of(answer)


def test_bodies_have_a_limit(client: FlaskClient) -> None:
    assert client.post("/control", data=b" " * 20_000, headers=OURS).status_code == 413
    answer = client.post("/upload?name=a.csv", data=b"1" * (MOST_BYTES + 1), headers=OURS)
    assert answer.status_code == 413


_texts = st.text(max_size=40)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)
_command = st.fixed_dictionaries(
    {"producer": _json, "action": st.sampled_from(["pause", "inject", "speed", "x"]) | _json},
    optional={"speed": _json, "fault": _json, "device": _json, "seconds": _json, "more": _json},
)
_FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@_FUZZ
@given(
    path=st.sampled_from(
        ["/control", "/upload", "/upload/x/replay", "/upload/x/import", "/upload/x/1", "/upload//replay", "/events"]
    ),
    body=st.binary(max_size=300) | _json.map(msgspec.json.encode) | _command.map(msgspec.json.encode),
    query=st.dictionaries(st.sampled_from(["name", "to", "more", "view", "wearer", "token", "n"]), _texts, max_size=3),
    method=st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"]),
)
def test_whatever_is_sent_is_answered_and_never_a_failure_of_ours(
    monitor: Monitor, reports: ReportMaker, path: str, body: bytes, query: dict[str, str], method: str
) -> None:
    if path == "/events" and method == "GET" and _is_stream(query):
        return  # those go on for ever
    with app_with(monitor, reports, Access()) as client:
        answer = client.open(path, method=method, data=body, query_string=query, headers=OURS)
    least = 200 if method in ("HEAD", "OPTIONS") else 400
    assert least <= answer.status_code < 500, (answer.status_code, answer.data[:200])


def _is_stream(query: dict[str, str]) -> bool:
    return ("wearer" in query) != ("view" in query)


@_FUZZ
@given(
    content=st.binary(max_size=400) | st.text(max_size=400).map(str.encode),
    ending=st.sampled_from(ENDINGS),
    columns=st.dictionaries(st.sampled_from(["time", "accel_x", "label"]), _texts, max_size=2),
)
def test_a_file_of_anything_is_taken_or_refused_in_words(
    tmp_path: Path, content: bytes, ending: str, columns: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        (Path(folder) / "in").mkdir()
        (Path(folder) / "in" / f"x{ending}").write_bytes(content)
        said = answer(Question(f"{folder}/in", f"{folder}/out", how=ImportRequest(columns=columns)))
    assert said.recordings or said.refused or said.failed
    assert folder not in msgspec.json.encode(said).decode()


@pytest.mark.slow
def test_a_file_is_taken_or_refused_through_the_page(client: FlaskClient, tmp_path: Path) -> None:
    taken = client.post("/upload?name=x.csv", data=their_csv(tmp_path).read_bytes(), headers=OURS)
    assert taken.status_code == 200
    assert taken.json is not None
    plots = client.get(f"/upload/{taken.json['id']}/0").json
    assert [plot[:5] for plot in plots] == ["<svg "] * 2
    assert client.get(f"/upload/{taken.json['id']}/1").status_code == 404
    refused = client.post("/upload?name=x.parquet", data=b"PAR1", headers=OURS)
    assert (refused.status_code, error_of(refused)[:11]) == (422, "x.parquet: ")
    asked = client.post("/upload?name=y.csv", data=b"time,ax\n0,1\n", headers=OURS)
    assert asked.status_code == 422
    assert asked.json is not None
    assert asked.json["table"]["columns"] == ["time", "ax"]
    assert client.post(f"/upload/{asked.json['id']}/replay", data="{}", headers=OURS).status_code == 404


@pytest.mark.parametrize(
    "path", ["/static/../web.py", "/static/..%2f..%2fweb.py", "/static/none.js", "/static//etc/passwd"]
)
def test_nothing_but_the_page_s_files_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code in (308, 404)


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    made = Uploads(NOWHERE)
    yield made
    made.close()


HEADER_ROW = ["timestamp (ms)", "Acc X (m/s2)", "Acc Y (m/s2)", "Acc Z (m/s2)", "wx", "wy", "wz"]
M = motion(8.0)


def their_csv(tmp_path: Path, header: list[str] | None = None, broken: tuple[int, int, str] | None = None) -> Path:
    """A recording as a phone would write it: ms since 1970, m/s², rad/s."""
    rows = rows_of(make_recording(len(M.t), values=np.hstack([9.80665 * M.accel, M.gyro])))
    for row in rows:
        row[0] = str(1_763_700_000_000 + round(float(row[0]) * 1000))
    if broken:
        rows[broken[0]][broken[1]] = broken[2]
    return write_csv(tmp_path / "theirs.csv", rows, header or HEADER_ROW)


def key_of(uploads: Uploads, *paths: Path) -> str:
    key = ""
    for path in paths:
        key = uploads.keep(path.name, io.BytesIO(path.read_bytes()), key)
    return key


@pytest.mark.slow
def test_a_phone_s_recording_is_understood_without_a_word(uploads: Uploads, tmp_path: Path) -> None:
    found = uploads.load(key_of(uploads, their_csv(tmp_path)))
    (recording,) = found["recordings"]
    assert [recording[k] for k in ("format", "samples", "rate_hz", "remarks")] == ["csv", 400, 50.0, []]
    assert recording["gravity_g"] == pytest.approx(1.0, abs=0.01)
    assert recording["windows"] == {"(no label)": 2}
    assert "acceleration of 400 samples converted to g" in recording["repairs"]
    assert found["table"]["mapping"]["accel_z"] == "Acc Z (m/s2)"
    assert len(found["table"]["head"]) == 5


@pytest.mark.slow
def test_who_what_and_which_wrist_can_be_told_afterwards(uploads: Uploads, tmp_path: Path) -> None:
    key = key_of(uploads, their_csv(tmp_path))
    uploads.load(key)
    (recording,) = uploads.load(key, ImportRequest("ann", "row", "right"))["recordings"]
    assert [recording[k] for k in ("subject", "side", "labels", "windows")] == ["ann", "right", ["row"], {"row": 2}]
    folder = uploads._folder
    assert folder is not None
    assert sum(p.is_dir() for p in (folder / key).iterdir()) == 2, "of an earlier import nothing stays"


@pytest.mark.slow
def test_columns_that_nobody_can_guess_are_asked_for(uploads: Uploads, tmp_path: Path) -> None:
    key = key_of(uploads, their_csv(tmp_path, list("tabcdef")))
    with pytest.raises(NothingImportedError, match="no acceleration found among 't', 'a'") as asked:
        uploads.load(key)
    assert asked.value.found["table"]["columns"] == list("tabcdef")
    chosen = dict(zip(("time", *AXES), "tabcdef", strict=True))
    (recording,) = uploads.load(key, ImportRequest(columns=chosen))["recordings"]
    assert recording["samples"] == 400
    with pytest.raises(RecordingError, match="choose all three columns of gyro"):
        uploads.load(key, ImportRequest(columns=chosen | {"gyro_x": ""}))
    with pytest.raises(NothingImportedError, match="there is no column 'no such'"):
        uploads.load(key, ImportRequest(columns=chosen | {"gyro_x": "no such"}))
    assert uploads.load(key, ImportRequest(columns=chosen | {"time": ""}, rate_hz=50))["recordings"]


@pytest.mark.slow
def test_a_mapping_file_is_sent_beside_the_tables(uploads: Uploads, tmp_path: Path) -> None:
    mapping = tmp_path / "map.toml"
    mapping.write_text('[columns]\ntime = "t"\naccel = ["a", "b", "c"]\ngyro = ["d", "e", "f"]\n')
    key = key_of(uploads, mapping, their_csv(tmp_path, list("tabcdef")))
    assert uploads.load(key)["recordings"][0]["samples"] == 400
    mapping.write_text("[columns]\naccel = 1\n")
    uploads.keep("map.toml", io.BytesIO(mapping.read_bytes()), key)
    with pytest.raises(RecordingError, match=r"map\.toml: columns\.accel must be three names"):
        uploads.load(key)


@pytest.mark.slow
def test_all_sessions_of_an_archive_are_listed_with_their_devices_and_those_that_fail(
    uploads: Uploads, tmp_path: Path
) -> None:
    sensor_logger_phone(tmp_path / "all" / "walk", M, ios=False)
    sensor_logger_watch(tmp_path / "all" / "walk", M)
    phyphox(tmp_path / "all" / "run", motion(9.0))
    (tmp_path / "all" / "run" / "Gyroscope.csv").unlink()
    shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "all")
    found = uploads.load(key_of(uploads, tmp_path / "all.zip"))
    assert sorted(r["format"] for r in found["recordings"]) == ["sensor-logger", "sensor-logger"]
    devices = {r["replayed_as"] for r in found["recordings"]}
    assert len(devices) == 2
    assert all(device.startswith("upload-") for device in devices)
    (failed,) = found["failed"]
    assert failed.startswith("all.zip!run/Accelerometer.csv: no gyroscope")
    assert found["table"] == {}


@pytest.mark.slow
def test_two_tables_of_one_recording_are_one_upload(uploads: Uploads, tmp_path: Path) -> None:
    folder = metamotion(tmp_path / "gym", M)
    (recording,) = uploads.load(key_of(uploads, *sorted(folder.iterdir())))["recordings"]
    assert (recording["format"], recording["labels"]) == ("metamotion", ["bench"])


@pytest.mark.slow
def test_a_cell_that_is_no_number_is_named_with_its_row_and_what_to_do(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(NothingImportedError) as refused:
        uploads.load(key_of(uploads, their_csv(tmp_path, broken=(41, 2, "oops"))))
    assert str(refused.value).startswith("theirs.csv: row 42, column 'Acc Y (m/s2)': found 'oops'")
    assert "repair or remove it" in str(refused.value)


@pytest.mark.slow
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(uploads: Uploads, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"a": pa.array([0.0]).take(pa.array([0] * 1_200_000))}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(RecordingError, match="1,200,000 rows"):
        uploads.load(key_of(uploads, path))


def test_more_files_than_belong_together_are_refused(uploads: Uploads) -> None:
    key = uploads.keep("0.csv", io.BytesIO(b"1" * 15_000_000))
    with pytest.raises(RecordingError, match="more than 20 files or 20 MB"):
        uploads.keep("1.csv", io.BytesIO(b"1" * 6_000_000), key)
    for i in range(1, 20):
        uploads.keep(f"{i}.csv", io.BytesIO(b"1"), key)
    with pytest.raises(RecordingError, match="more than 20 files or 20 MB"):
        uploads.keep("20.csv", io.BytesIO(b"1"), key)
    with pytest.raises(KeyError):
        uploads.keep("a.csv", io.BytesIO(b"1"), "no such")


def test_only_the_newest_uploads_are_kept_and_at_the_end_none() -> None:
    uploads = Uploads(NOWHERE)
    keys = [uploads.keep("a.csv", io.BytesIO(b"1")) for _ in range(6)]
    folder = uploads._folder
    assert folder is not None
    assert len(list(folder.iterdir())) == 4
    with pytest.raises(KeyError):
        uploads.replay(keys[0])
    assert len(list(folder.iterdir())) == 4
    uploads.close()
    assert not folder.exists()
