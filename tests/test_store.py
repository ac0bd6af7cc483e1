"""What any store promises, held to by SQLite and MongoDB, and by PostgreSQL where there is one.

``REPSTREAM_TEST_POSTGRES=postgresql://USER@HOST/DATABASE`` and ``REPSTREAM_TEST_MONGO=mongodb://HOST`` name
servers to test on; each test makes a schema, or a database, of its own there and drops it. Without the
former a PostgreSQL that is installed is started (tests/postgres_server.py), without the latter a server of
MongoDB's protocol (tests/mongo_server.py).
"""

from __future__ import annotations

import csv
import fnmatch
import importlib.util
import io
import json
import os
import random
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import pytest
import sqlalchemy

from repstream.errors import SettingsError
from repstream.messages.messages import ALARM_CAUSES, Alarm, Prediction, prediction_id
from repstream.processes.ports import free_port
from store import sql
from store.interface import AlarmQuery, PredictionQuery, RefusedRowError, Store, StoreError, StoreUnavailableError
from store.open import open_store, shown
from tests.mongo_server import mongo_server
from tests.postgres_server import postgres_server, programs
from tests.support import cli, failure, success
from tests.tools import not_checked

T0 = 1_763_700_000.0

Opener = Callable[..., Store]


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    named = os.environ.get("REPSTREAM_TEST_MONGO")
    if named:
        yield named
        return
    with mongo_server(tmp_path_factory.mktemp("mongo")) as url:
        yield url


@pytest.fixture
def mongo_url(mongo: str) -> Iterator[str]:
    import pymongo

    parts = urlsplit(mongo)
    name = f"repstream-test-{uuid.uuid4().hex[:12]}"
    yield parts._replace(path=f"/{name}").geturl()
    with pymongo.MongoClient[dict[str, object]](mongo) as client:
        client.drop_database(name)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("NOT CHECKED on PostgreSQL: psycopg is missing; pip install 'repstream[postgres]'")
    if named := os.environ.get("REPSTREAM_TEST_POSTGRES"):
        yield named
    elif (folder := programs()) is not None:
        with postgres_server(folder) as url:
            yield url
    else:
        not_checked(
            "PostgreSQL is not installed (apt-get install postgresql), nor one named by "
            "REPSTREAM_TEST_POSTGRES=postgresql://USER@HOST/DATABASE"
        )


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    import psycopg

    name = f"repstream_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        yield f"{postgres}?options={quote(f'-csearch_path={name}')}"
        connection.execute(f"DROP SCHEMA {name} CASCADE".encode())


@pytest.fixture(params=["sqlite", "mongodb", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'kept' / 'store.db'}"
    name = {"mongodb": "mongo_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture
def opened(url: str) -> Iterator[Opener]:
    """Open the store of this test, as often as wanted."""
    stores: list[Store] = []

    def open_it(**options: bool) -> Store:
        stores.append(open_store(url, writing=True, **options))
        return stores[-1]

    yield open_it
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opener) -> Store:
    made = opened()
    made.prepare()
    return made


def prediction(
    device: str = "d1", session: str = "s1", index: int = 0, label: str = "ABD", end: float | None = None, **more: Any
) -> Prediction:
    end = T0 + 0.5 * index + 3.0 if end is None else end
    probabilities = more.pop("probabilities", {label: 0.75, "other": 0.25})
    model = more.pop("model", "spar/2")
    return Prediction(
        v=1,
        id=prediction_id(device, session, index),
        device=device,
        session=session,
        index=index,
        start=end - 3.0,
        end=end,
        label=label,
        confidence=0.75,
        probabilities=probabilities,
        features=more.pop("features", [0.1, -2.5e-17]),
        model=model,
        sampled_at=end + 0.18,
        predicted_at=end + 0.2,
        **more,
    )


def alarm(number: int = 1, device: str = "d1", raised: float = T0, ended: float | None = None, **more: Any) -> Alarm:
    return Alarm(
        id=f"alarm-{number}",
        scope="device" if device else "all",
        device=device,
        cause=more.pop("cause", "rotated"),
        axes=["accel_x", "gyro_z"],
        text=more.pop("text", "turned by 90°"),
        advice="look at the strap",
        since=raised - 10.0,
        raised=raised,
        certainty=0.9,
        model=more.pop("model", "spar/2"),
        ended=ended,
    )


def all_of(store: Store, **query: Any) -> list[Prediction]:
    return list(store.predictions(PredictionQuery(**query)))


def without_features(predictions: list[Prediction]) -> list[Prediction]:
    return [msgspec.structs.replace(p, features=[]) for p in predictions]


# --------------------------------------------------------------------------------------------- keeping


@pytest.mark.slow
def test_what_is_kept_comes_back_to_the_last_bit(opened: Opener) -> None:
    odd = {"ABD": 1 / 3, "push.up": 5e-324, "$x": 1.7976931348623157e308, "Ü bung ✓": 0.1 + 0.2, 'q"\\': -0.0}
    kept = [
        prediction("Gerät 1", "s ✓", 2**53, probabilities=odd, signal=[1.0, 2.5e-8]),
        prediction("d'; --", 's"%', 1, label="", features=[1 / 7] * 105, end=T0 + 2**53 + 0.1),
    ]
    told = [alarm(1, text="Zeile 1\nZeile 2"), alarm(2, device="", raised=T0 + 1 / 3, ended=T0 + 99.7)]
    store = opened(features=True)
    store.prepare()
    store.save(kept, told)
    again = opened(features=True)
    assert all_of(again) == kept
    assert [msgspec.json.encode(p) for p in all_of(again)] == [msgspec.json.encode(p) for p in kept]
    assert list(again.alarms(AlarmQuery())) == told


def test_features_are_left_out_unless_asked_for(store: Store) -> None:
    kept = [prediction(features=[1.0] * 105, signal=[0.5])]
    store.save(kept, [])
    assert all_of(store) == without_features(kept)


@pytest.mark.slow
def test_saving_the_same_again_in_any_cut_keeps_one_of_each(store: Store) -> None:
    kept = [prediction(device, index=i) for i in range(40) for device in ("d1", "d2")]
    told = [alarm(i, raised=T0 + i) for i in range(5)]
    for cut in (80, 1, 7, 33):
        for i in range(0, len(kept), cut):
            store.save(kept[i : i + cut], told)
    store.save([*kept[:20], *kept[:20]], [*told, *told])
    assert sorted(p.id for p in all_of(store)) == sorted(p.id for p in kept)
    assert list(store.alarms(AlarmQuery())) == told


@pytest.mark.slow
def test_what_is_saved_later_under_an_id_replaces_it(store: Store) -> None:
    store.save([prediction(label="ABD", signal=[1.0]), prediction(index=1)], [alarm(text="first")])
    later = prediction(label="ROW", probabilities={"ROW": 1.0})
    store.save([prediction(label="FEL"), later], [alarm(text="second")])
    assert all_of(store) == without_features([later, prediction(index=1)])
    assert [a.text for a in store.alarms(AlarmQuery())] == ["second"]


def test_an_alarm_that_is_over_stays_over_however_often_its_beginning_comes_again(store: Store) -> None:
    begun, over = alarm(), alarm(ended=T0 + 60)
    for batches in ([[begun], [over], [begun]], [[over, begun]], [[begun, over], [begun]]):
        for batch in batches:
            store.save([], batch)
        assert list(store.alarms(AlarmQuery())) == [over], batches


@pytest.mark.slow
def test_what_two_models_say_of_the_same_window_is_kept_side_by_side(store: Store) -> None:
    kept = [prediction(index=i, model=model) for i in range(3) for model in ("spar/1", "spar/2")]
    told = [alarm(model="spar/1", ended=T0 + 60), alarm(model="spar/2")]
    store.save(kept[::2], told)
    store.save(list(reversed(kept)), list(reversed(told)))
    assert all_of(store) == without_features(kept)
    assert all_of(store, newest=3) == without_features(kept)[-3:]
    assert list(store.alarms(AlarmQuery())) == told
    assert store.delete_before(T0 + 3.1, 10) == 2 + 0
    assert all_of(store) == without_features(kept[2:])
    assert store.delete_before(T0 + 61, 10) == 4 + 1
    assert list(store.alarms(AlarmQuery())) == [told[1]]


def test_nothing_to_keep_is_nothing_to_do(store: Store) -> None:
    store.save([], [])
    assert (all_of(store), list(store.alarms(AlarmQuery()))) == ([], [])


def test_a_value_that_no_row_can_hold_is_refused_and_not_taken_for_a_database_that_is_away(store: Store) -> None:
    with pytest.raises(RefusedRowError):
        store.save([prediction(index=1), prediction(index=2**63)], [])
    store.save([prediction(index=1)], [])
    assert [p.index for p in all_of(store)] == [1]


# Longer than what fits an index of PostgreSQL (2.7 kB), and no pattern to compress it by.
_LONG = random.Random(7).randbytes(4_000).hex()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("odd", "refusing"),
    [
        (prediction(_LONG), {"postgresql"}),
        (prediction(session="a\0b"), {"postgresql"}),
        (prediction(probabilities={"a\0b": 1.0}), {"mongodb"}),
        (alarm(text="x" * 17_000_000), {"mongodb"}),
    ],
    ids=["a-long-name", "a-NUL-in-a-text", "a-NUL-in-a-label", "17-MB"],
)
def test_what_a_database_will_never_take_is_refused_and_not_tried_for_ever(
    store: Store, url: str, odd: Prediction | Alarm, refusing: set[str]
) -> None:
    rows = ([odd], []) if isinstance(odd, Prediction) else ([], [odd])
    if urlsplit(url).scheme in refusing:
        with pytest.raises(RefusedRowError):
            store.save(*rows)
    else:
        store.save(*rows)
        found = all_of(store) if isinstance(odd, Prediction) else list(store.alarms(AlarmQuery()))
        assert found in ([odd], without_features(rows[0]))
    store.save([prediction("well")], [])
    assert len(all_of(store, device="well")) == 1


def test_preparing_a_store_that_is_in_use_changes_nothing(store: Store, opened: Opener) -> None:
    store.save([prediction()], [alarm()])
    opened().prepare()
    assert len(all_of(store)) == 1


def keyed_by_id_alone(url: str, kept: list[Prediction], told: list[Alarm]) -> None:
    """Make a store as the first release did, whose key was the id."""
    rows = [("predictions", kept), ("alarms", told)]
    if urlsplit(url).scheme == "mongodb":
        import pymongo

        with pymongo.MongoClient[dict[str, Any]](url) as client:
            for name, messages in rows:
                documents = [msgspec.structs.asdict(m) for m in messages]
                for document in documents:
                    document["_id"] = document.pop("id")
                    del document["v"]
                client.get_default_database()[name].insert_many(documents)
        return
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    for name, messages in rows:
        table = sql.PREDICTIONS if name == "predictions" else sql.ALARMS
        columns = [sqlalchemy.Column(c.name, c.type, primary_key=c.name == "id") for c in table.columns]
        indexes = [sqlalchemy.Index(index.name, *(c.name for c in index.columns)) for index in table.indexes]
        old = sqlalchemy.Table(name, sqlalchemy.MetaData(), *columns, *indexes)
        with engine.begin() as connection:
            old.create(connection)
            connection.execute(sqlalchemy.insert(old), [msgspec.structs.asdict(m) for m in messages])
    engine.dispose()


@pytest.mark.slow
def test_a_store_whose_key_was_the_id_alone_is_taken_over_with_all_that_it_holds(url: str, opened: Opener) -> None:
    kept = [prediction(index=i) for i in range(2_500)]
    told = [alarm(1, ended=T0 + 60), alarm(2)]
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    keyed_by_id_alone(url, kept, told)
    store = opened()
    assert all_of(store) == kept  # it can be read before
    make_together([store, opened(), opened()])
    for _ in range(2):
        assert all_of(store) == kept
        assert list(store.alarms(AlarmQuery())) == told
        store.prepare()
    other = prediction(model="spar/3")
    store.save([other], [alarm(2, model="spar/3")])
    assert all_of(store, newest=2_600)[:2] == [kept[0], *without_features([other])]
    assert len(all_of(store)) == len(kept) + 1
    assert len(list(store.alarms(AlarmQuery()))) == 3


def make_together(stores: list[Store]) -> None:
    together = threading.Barrier(len(stores))
    failed: list[BaseException] = []

    def prepare(store: Store) -> None:
        together.wait(30)
        try:
            store.prepare()
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=prepare, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_stores_may_be_made_at_the_same_moment(opened: Opener) -> None:
    stores = [opened() for _ in range(4)]
    make_together(stores)
    assert list(stores[0].predictions(PredictionQuery())) == []


@pytest.mark.slow
def test_many_rows_are_read_while_more_are_being_written(store: Store, opened: Opener) -> None:
    store.save([prediction(index=i) for i in range(3_000)], [])
    reading = store.predictions(PredictionQuery())
    first = next(reading)
    opened().save([prediction("d2", index=i) for i in range(100)], [])
    indices = [first.index, *(p.index for p in reading if p.device == "d1")]
    assert indices == list(range(3_000))


# --------------------------------------------------------------------------------------------- finding

DEVICES = ["spar-s01-left", "spar-s01-right", "Spar-s01-left", "spar_s01", "100%", "a[1]", "a1", "a.c\\", "abc", "x\ny"]


def fits(pattern: str | None, text: str) -> bool:
    return pattern is None or fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


@pytest.fixture
def many() -> list[Prediction]:
    """Some hundreds in no order; several windows end at the same time."""
    chance = random.Random(7)
    made = [
        prediction(device, f"{device}-{part}", i, chance.choice(["ABD", "ROW"]), T0 + i * 0.5)
        for device in DEVICES
        for part in ("a", "b")
        for i in range(10)
    ]
    chance.shuffle(made)
    return without_features(made)


QUERIES: list[dict[str, Any]] = [
    {},
    *({"device": pattern} for pattern in (*DEVICES, "spar-*", "*left", "spar?s01", "a?1]", "a[*", "*%*", "*", "?", "")),
    *({"device": pattern} for pattern in ("a.*", "*\\", "x?y", "*\n*", "SPAR*", "spar-s0?-l*t", "none")),
    {"session": "*-a"},
    {"session": "abc-a", "device": "abc"},
    {"label": "ROW"},
    {"label": "row"},
    {"from_s": T0 + 2.0},
    {"to_s": T0 + 2.0},
    {"from_s": T0 + 1.0, "to_s": T0 + 1.0},
    {"from_s": T0 + 1.0, "to_s": T0 + 1.5, "label": "ABD", "device": "*s01*"},
    {"newest": 1},
    {"newest": 37},
    {"newest": 5, "device": "spar*", "to_s": T0 + 3.0},
]


@pytest.mark.slow
def test_every_query_finds_what_fits_and_nothing_else_in_order_of_time(store: Store, many: list[Prediction]) -> None:
    store.save(many, [])
    for query in QUERIES:
        wanted = PredictionQuery(**query)
        expected = [
            p
            for p in sorted(many, key=lambda p: (p.end, p.id.encode()))
            if fits(wanted.device, p.device)
            and fits(wanted.session, p.session)
            and wanted.label in (None, p.label)
            and (wanted.from_s is None or p.end >= wanted.from_s)
            and (wanted.to_s is None or p.end < wanted.to_s)
        ]
        if wanted.newest is not None:
            expected = expected[-wanted.newest :]
        assert list(store.predictions(wanted)) == expected, query


@pytest.mark.slow
def test_alarms_are_found_by_device_and_by_when_they_were_open(store: Store) -> None:
    told = [
        alarm(1, raised=T0, ended=T0 + 10),
        alarm(2, raised=T0 + 5),
        alarm(3, "d2", T0 + 20, T0 + 30),
        alarm(4, "", T0 + 40),
    ]
    store.save([], list(reversed(told)))
    for query, numbers in (
        ({}, [1, 2, 3, 4]),
        ({"from_s": T0 + 10.5}, [2, 3, 4]),
        ({"from_s": T0 + 10}, [1, 2, 3, 4]),
        ({"to_s": T0 + 5}, [1]),
        ({"from_s": T0 + 11, "to_s": T0 + 20}, [2]),
        ({"device": "d1"}, [1, 2]),
        ({"device": "d*"}, [1, 2, 3]),
        ({"device": ""}, [4]),
        ({"newest": 2}, [3, 4]),
        ({"newest": 1, "device": "d1"}, [2]),
    ):
        assert list(store.alarms(AlarmQuery(**query))) == [told[n - 1] for n in numbers], query


def test_all_causes_of_alarms_can_be_kept(store: Store) -> None:
    told = [alarm(i, raised=T0 + i, cause=cause) for i, cause in enumerate(ALARM_CAUSES)]
    store.save([], told)
    assert list(store.alarms(AlarmQuery())) == told


def test_each_kind_of_query_reads_an_index_in_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(open_store(f"sqlite:///{path}", writing=True)) as store:
        store.prepare()
        store.save([prediction(f"d{i % 50}", f"s{i % 100}", i) for i in range(2_000)], [])
    with closing(sqlite3.connect(path)) as database:
        for where, index in (
            ("device = 'd1' AND \"end\" >= 1", "predictions_by_device"),
            ("session = 's1'", "predictions_by_session"),
            ('"end" >= 9e9', "predictions_by_end"),
            ("label = 'ABD' AND \"end\" >= 9e9", "predictions_by_label"),
            ("device GLOB 'd1*'", "predictions_by_device"),
        ):
            plan = database.execute(f"EXPLAIN QUERY PLAN SELECT * FROM predictions WHERE {where}").fetchall()
            assert index in plan[0][3], (where, plan)


def test_the_same_indexes_are_made_in_mongodb(mongo_url: str) -> None:
    import pymongo

    with closing(open_store(mongo_url, writing=True)) as store:
        store.prepare()
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        found = client.get_default_database()["predictions"].index_information().values()
    keys = {tuple(name for name, _ in index["key"]) for index in found}
    assert keys == {("_id",), ("device", "end"), ("session", "index"), ("end",), ("label", "end")}


# ------------------------------------------------------------------------------------------- forgetting


@pytest.mark.slow
def test_what_is_too_old_goes_in_bounded_steps_and_what_is_open_stays(store: Store) -> None:
    told = [alarm(1, ended=T0 + 1), alarm(2), alarm(3, ended=T0 + 9_000)]
    store.save([prediction(index=i) for i in range(100)], told)
    limit = T0 + 3.0 + 0.5 * 70  # 70 windows ended before
    steps = [store.delete_before(limit, 30) for _ in range(4)]
    assert steps == [31, 30, 10, 0]
    assert [p.index for p in all_of(store)] == list(range(70, 100))
    assert list(store.alarms(AlarmQuery())) == [told[1], told[2]]


# ----------------------------------------------------------------------------------------- what is wrong


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["mongodb", "postgresql"])
def test_a_database_that_does_not_answer_is_said_to_be_away_within_seconds_and_without_its_password(
    scheme: str,
) -> None:
    if scheme == "postgresql" and importlib.util.find_spec("psycopg") is None:
        pytest.skip("the package psycopg is missing: pip install 'repstream[postgres]'")
    quick = "?serverSelectionTimeoutMS=500" if scheme == "mongodb" else ""
    url = f"{scheme}://ann:geheim@127.0.0.1:{free_port()}/kept{quick}"
    with closing(open_store(url, writing=True)) as store:
        for call in (store.prepare, lambda: store.save([prediction()], []), lambda: all_of(store)):
            with pytest.raises(StoreUnavailableError, match=f"{scheme}://ann@127.0.0.1:") as caught:
                call()
            assert caught.value.retriable
            assert "geheim" not in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.skipif("REPSTREAM_TEST_MONGO" in os.environ, reason="a MongoDB refuses a login that it does not know")
def test_a_server_that_knows_no_logins_is_used_without_one_and_that_is_said(
    mongo_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = mongo_url.replace("mongodb://", "mongodb://ann:geheim@")
    with closing(open_store(url, writing=True)) as store:
        store.prepare()
        store.save([prediction()], [])
    with closing(open_store(url)) as again:
        assert len(all_of(again)) == 1
    assert [r.levelname for r in caplog.records if "knows no logins" in r.message] == ["WARNING"] * 2
    assert "mongodb://ann@" in caplog.text
    assert "geheim" not in caplog.text


def test_what_a_store_keeps_in_a_file_is_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    with closing(open_store(f"sqlite:///{path}", writing=True)) as store:
        store.prepare()
        files = list(path.parent.iterdir())
        assert {"store.db", "store.db-wal"} <= {p.name for p in files}
        assert {p.stat().st_mode & 0o777 for p in files} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_a_locked_sqlite_file_is_away_and_answers_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(open_store(f"sqlite:///{path}", writing=True)) as store:
        store.prepare()
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailableError, match="locked"):
                store.save([prediction()], [])
            assert all_of(store) == []  # readers are not held up
        store.save([prediction()], [])
        assert len(all_of(store)) == 1


def test_a_store_is_made_in_a_file_that_another_one_is_just_reading(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("CREATE TABLE something (x)")
        other.execute("BEGIN")
        other.execute("SELECT * FROM something").fetchall()
        reading = threading.Timer(0.2, other.rollback)
        with closing(open_store(f"sqlite:///{path}", writing=True)) as store:
            reading.start()
            store.prepare()
            reading.join()
            store.save([prediction()], [])
            assert len(all_of(store)) == 1


def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "notes.db"
    text.write_text("not a database, but long enough to be looked at as one\n" * 100)
    before = text.read_bytes()
    with closing(open_store(f"sqlite:///{text}", writing=True)) as store, pytest.raises(StoreError, match="notes"):
        store.prepare()
    assert text.read_bytes() == before
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE something (x)")
    with closing(open_store(f"sqlite:///{other}")) as store, pytest.raises(StoreError) as caught:
        all_of(store)
    assert not caught.value.retriable


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "store.db",
            "sqlite://",
            "sqlite:///",
            "sqlite://host/file",
            "mysql://h/d",
            "redis://u:geheim@h",
            "http://[x",
        ),
        *("mongodb://ann:geheim@h:port/d", "mongodb://ann:ge:heim@/", "postgresql://ann:geheim@h:99999999/d"),
    ],
)
def test_a_url_that_names_no_store_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(url)
    assert "geheim" not in str(caught.value)
    assert "heim" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mongodb://ann:geheim@h1:1,h2:2/d?authSource=a", "mongodb://ann@h1:1,h2:2/d"),
        ("postgresql://ann:ge/he@im@h/d", "postgresql://ann@h/d"),
        ("postgresql://h/d?user=ann&password=geheim", "postgresql://h/d"),
        ("postgresql://ann:ge?he@im@h/d", "postgresql://…"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
    ],
)
def test_a_url_is_shown_without_password_and_options(url: str, text: str) -> None:
    assert shown(url) == text


@pytest.mark.slow
def test_two_writers_at_once_keep_one_of_each(store: Store, opened: Opener) -> None:
    kept = [prediction(f"d{i % 3}", index=i) for i in range(600)]
    failures: list[BaseException] = []

    def write(into: Store) -> None:
        for i in range(0, 600, 100):
            for _ in range(50):
                try:
                    into.save(kept[i : i + 100], [])
                    break
                except StoreUnavailableError:
                    continue  # as the sink does
                except BaseException as error:
                    failures.append(error)
                    raise

    writers = [threading.Thread(target=write, args=(into,)) for into in (store, opened())]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    assert sorted(p.id for p in all_of(store)) == sorted(p.id for p in kept)


# ------------------------------------------------------------------------------------------- the command


@pytest.fixture
def filled(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with closing(open_store(url, writing=True)) as store:
        store.prepare()
        store.save(
            [prediction(f"spar-s0{d}-left", f"s{d}", i, "ROW" if i % 2 else "ABD") for d in (1, 2) for i in range(40)],
            [alarm(1, ended=T0 + 75.5), alarm(2, device="", raised=T0 + 100, cause="exercise-mix")],
        )
    return url


def test_the_command_answers_as_a_table_of_the_last_ones(filled: str) -> None:
    outcome = success("predictions", "--store", filled, "--device", "spar-s01-*")
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["end", "(UTC)", "device", "session", "window", "exercise", "confidence", "model"]
    assert lines[-1].split() == ["2025-11-21", "04:40:22.50", "spar-s01-left", "s1", "39", "ROW", "0.750", "spar/2"]
    assert len(lines) == 21
    assert outcome.err == "the last 20 predictions; --limit N lists more, --format csv all\n"


def test_the_command_answers_as_csv_and_json_what_the_store_holds(filled: str, tmp_path: Path) -> None:
    with closing(open_store(filled)) as store:
        kept = all_of(store, label="ROW")
    rows = list(
        csv.DictReader(
            success(
                "predictions", "--exercise", "ROW", "--format", "csv", env={"REPSTREAM_STORE": filled}
            ).out.splitlines()
        )
    )
    assert [row["id"] for row in rows] == [p.id for p in kept]
    assert [float(row["end"]) for row in rows] == [p.end for p in kept]
    assert json.loads(rows[0]["probabilities"]) == kept[0].probabilities
    out = tmp_path / "rows.json"
    assert (
        success("predictions", "--store", filled, "--exercise", "ROW", "--out", out).err == f"{out}: 40 predictions\n"
    )
    found = json.loads(out.read_text())
    assert [msgspec.convert({"v": 1, "features": [], **row}, Prediction) for row in found] == kept
    assert sorted(p.name for p in tmp_path.glob("rows*")) == ["rows.json"]


def test_times_are_epoch_seconds_or_iso_8601(filled: str) -> None:
    def ends(*options: str) -> list[float]:
        outcome = success("predictions", "--store", filled, "--device", "spar-s01-left", "--format", "json", *options)
        return [row["end"] for row in json.loads(outcome.out)]

    expected = [T0 + 10.0, T0 + 10.5]
    assert ends("--from", str(T0 + 10), "--to", str(T0 + 11)) == expected
    assert ends("--from", "2025-11-21T04:40:10Z", "--to", "2025-11-21T05:40:11+01:00") == expected
    assert ends("--from", "2025-11-21 04:40:10", "--to", "2025-11-21T04:40:11") == expected
    for wrong in ("yesterday", "1763700000000", "20251121", "nan"):
        outcome = cli("predictions", "--store", filled, "--from", wrong)
        assert outcome.code == 2, wrong
        assert wrong in outcome.err


def test_the_command_lists_alarms(filled: str) -> None:
    lines = success("predictions", "--store", filled, "--alarms").out.splitlines()
    assert lines[1].startswith("2025-11-21 04:40:00.00  2025-11-21 04:41:15.50  d1")
    assert lines[2].startswith("2025-11-21 04:41:40.00  open                    (all)   exercise-mix  spar/2")
    rows = json.loads(success("predictions", "--store", filled, "--alarms", "--format", "json").out)
    with closing(open_store(filled)) as store:
        assert [msgspec.convert(row, Alarm) for row in rows] == list(store.alarms(AlarmQuery()))
    rows = list(
        csv.DictReader(success("predictions", "--store", filled, "--alarms", "--format", "csv").out.splitlines())
    )
    assert [row["ended"] for row in rows] == [str(T0 + 75.5), ""]
    assert json.loads(rows[0]["axes"]) == ["accel_x", "gyro_z"]
    assert cli("predictions", "--store", filled, "--alarms", "--exercise", "ROW").code == 2


FORMULAS = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"]


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A store with names that move a terminal's cursor, or are a formula to a spreadsheet."""
    url = f"sqlite:///{tmp_path / 'hostile.db'}"
    with closing(open_store(url, writing=True)) as store:
        store.prepare()
        kept = [prediction("d\x1b[2J", "s\n\u202e\x9b1m", -5), *(prediction(f, index=-1) for f in FORMULAS)]
        store.save(kept, [alarm(text="red \x1b[31m\nand a second line")])
    return url


def test_a_table_escapes_what_would_control_the_terminal(hostile: str) -> None:
    for options, lines in ((("--device", "d*"), 2), (("--alarms",), 2)):
        out = success("predictions", "--store", hostile, *options).out
        assert len(out.splitlines()) == lines
        assert all(c.isprintable() or c == "\n" for c in out)
        assert r"\x1b[" in out


def test_no_cell_of_a_csv_is_a_formula_unless_asked_for_as_it_is(hostile: str) -> None:
    def devices(*options: str) -> list[str]:
        out = success("predictions", "--store", hostile, "--format", "csv", *options).out
        rows = list(csv.DictReader(io.StringIO(out, newline="")))
        assert {float(row["index"]) for row in rows} == {-5, -1}  # numbers stay numbers
        return [row["device"] for row in rows]

    assert set(devices()) == {"d\x1b[2J", *(f"'{f}" for f in FORMULAS)}
    assert set(devices("--as-is")) == {"d\x1b[2J", *FORMULAS}


def test_an_empty_answer_is_said_to_be_one_and_is_still_readable(filled: str) -> None:
    outcome = success("predictions", "--store", filled, "--device", "none", "--json")
    assert (json.loads(outcome.out), outcome.err) == ([], "no prediction matches\n")


def test_json_is_asked_for_as_everywhere(filled: str) -> None:
    assert success("predictions", "--store", filled, "--json") == success(
        "predictions", "--store", filled, "--format", "json"
    )
    assert "leave one out" in cli("predictions", "--store", filled, "--json", "--format", "csv").err


@pytest.mark.slow
def test_a_store_that_is_not_there_is_one_line_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    assert "there is no such store" in failure("predictions", "--store", f"sqlite:///{path}")
    assert not path.exists()
    out = tmp_path / "no" / "folder.csv"
    url = f"sqlite:///{tmp_path / 'made.db'}"
    with closing(open_store(url, writing=True)) as store:
        store.prepare()
    assert "cannot be written" in failure("predictions", "--store", url, "--out", out)
