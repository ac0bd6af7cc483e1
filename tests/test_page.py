"""The page's HTTP: who may come in, what it refuses and how, what may be run in a browser."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
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
from monitor.live.upload_worker import Question, answer
from monitor.live.uploads import MOST_BYTES, Uploads
from monitor.page.access import HEADER, Access, RateLimit, RefusedError, is_loopback
from monitor.page.app import close_app, create_app
from monitor.page.routes import STATIC
from monitor.reports.maker import ReportMaker
from monitor.service import Monitor
from monitor.settings import MonitorSettings
from repstream.errors import RecordingError, SettingsError
from repstream.kafka.connection import KafkaConnection
from repstream.recognition.model import load_model
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
@pytest.mark.parametrize("path", ["/control", "/upload?name=a.csv", "/upload/x/replay"])
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


def test_the_eleventh_file_in_a_minute_is_refused(client: FlaskClient) -> None:
    codes = [client.post("/upload?name=a.txt", headers=OURS).status_code for _ in range(11)]
    assert codes == [422] * 10 + [429]


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
    path=st.sampled_from(["/control", "/upload", "/upload/x/replay", "/upload//replay", "/events"]),
    body=st.binary(max_size=300) | _json.map(msgspec.json.encode) | _command.map(msgspec.json.encode),
    query=st.dictionaries(st.sampled_from(["name", "view", "wearer", "token", "n"]), _texts, max_size=3),
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
    content=st.binary(max_size=400) | st.text(max_size=400).map(str.encode), ending=st.sampled_from(["csv", "parquet"])
)
def test_a_file_of_anything_is_taken_or_refused_in_words(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"0123.{ending}"
    path.write_bytes(content)
    for out in ("", str(tmp_path / "out.parquet")):
        said = answer(Question(f"x.{ending}", str(path), out))
        assert said.found or said.refused.startswith(f"x.{ending}: ")
        assert str(tmp_path) not in said.refused


@pytest.mark.slow
def test_a_file_is_taken_or_refused_through_the_page(client: FlaskClient) -> None:
    taken = client.post("/upload?name=x.csv", data=b"time,ax\n0,1\n", headers=OURS)
    assert (taken.status_code, taken.json["rows"] if taken.json else None) == (200, 1)
    refused = client.post("/upload?name=x.parquet", data=b"PAR1", headers=OURS)
    assert (refused.status_code, error_of(refused)[:11]) == (422, "x.parquet: ")


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


def their_csv(tmp_path: Path, broken: tuple[int, int, str] | None = None) -> Path:
    """A recording as a phone would write it: ms since 1970, m/s², rad/s."""
    rows = rows_of(make_recording(200))
    for row in rows:
        row[0] = str(1_763_700_000_000 + round(float(row[0]) * 1000))
        row[1:4] = [str(float(x) * 9.80665) for x in row[1:4]]
        row[4:7] = [str(float(x) / 57.29578) for x in row[4:7]]
    if broken:
        rows[broken[0]][broken[1]] = broken[2]
    return write_csv(tmp_path / "theirs.csv", rows, HEADER_ROW)


def taken(uploads: Uploads, path: Path) -> dict[str, Any]:
    return uploads.take(path.name, io.BytesIO(path.read_bytes()))


@pytest.mark.slow
def test_a_phone_s_recording_is_understood_without_a_word(uploads: Uploads, tmp_path: Path) -> None:
    found = taken(uploads, their_csv(tmp_path))
    assert (found["rows"], len(found["head"])) == (200, 5)
    assert [found["mapping"][k] for k in ("time", "accel_x", "accel_z", "gyro_y")] == [
        "timestamp (ms)",
        "Acc X (m/s2)",
        "Acc Z (m/s2)",
        "wy",
    ]
    assert found["units"] == {"time_unit": "ms", "accel_unit": "m/s2", "gyro_unit": "rad/s"}


@pytest.mark.slow
def test_a_cell_that_is_no_number_is_named_with_its_row_and_what_to_do(uploads: Uploads, tmp_path: Path) -> None:
    found = taken(uploads, their_csv(tmp_path, broken=(41, 2, "oops")))
    with pytest.raises(RecordingError) as refused:
        uploads.replay(found["id"], found["mapping"], **found["units"], side="left")
    assert str(refused.value).startswith("theirs.csv: row 42, column 'Acc Y (m/s2)': found 'oops'")
    assert "repair it" in str(refused.value)


@pytest.mark.slow
def test_units_that_cannot_be_meant_are_refused_with_the_page_s_own_cure(uploads: Uploads, tmp_path: Path) -> None:
    found = taken(uploads, their_csv(tmp_path))
    with pytest.raises(RecordingError) as refused:
        uploads.replay(found["id"], found["mapping"], "ms", "g", "rad/s", "left")
    assert "if it is in m/s², choose that unit" in str(refused.value)
    assert "--" not in str(refused.value)
    with pytest.raises(RecordingError) as refused:
        uploads.replay(found["id"], found["mapping"], "s", "m/s2", "rad/s", "left")
    assert str(refused.value).endswith("; choose another unit of the time column (s, ms, µs or ns)")
    with pytest.raises(RecordingError) as refused:
        uploads.replay(found["id"], {**found["mapping"], "gyro_x": "no such"}, "ms", "m/s2", "rad/s", "left")
    assert str(refused.value).endswith("; choose it under “gyro_x”")


@pytest.mark.slow
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(uploads: Uploads, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"a": pa.array([0.0]).take(pa.array([0] * 1_200_000))}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(RecordingError, match="1,200,000 rows"):
        taken(uploads, path)


@pytest.mark.slow
def test_only_the_newest_files_are_kept_and_at_the_end_none(tmp_path: Path) -> None:
    uploads = Uploads(NOWHERE)
    path = their_csv(tmp_path)
    ids = [taken(uploads, path)["id"] for _ in range(6)]
    folder = uploads._folder
    assert folder is not None
    assert len(list(folder.iterdir())) == 4
    with pytest.raises(KeyError):
        uploads.replay(ids[0], {}, "s", "g", "deg/s", "left")
    uploads.close()
    assert not folder.exists()
