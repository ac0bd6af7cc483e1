"""Stores in SQLite and PostgreSQL, by the same statements of SQLAlchemy."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Double,
    Engine,
    Index,
    MetaData,
    Select,
    Table,
    Text,
    create_engine,
    delete,
    exc,
    func,
    insert,
    inspect,
    make_url,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex, DropTable
from sqlalchemy.types import JSON

from repstream.errors import SettingsError
from repstream.messages import fields
from repstream.messages.messages import Alarm, Prediction
from repstream.processes.private import FILE_MODE, FOLDER_MODE
from store.interface import (
    AlarmQuery,
    PredictionQuery,
    RefusedRowError,
    StoreError,
    StoreUnavailableError,
    as_glob,
    as_like,
    is_plain,
    merged,
    once_each,
)

log = logging.getLogger(__name__)

# Compared by bytes, as SQLite and MongoDB do: one order everywhere, and LIKE 'abc%' can use an index.
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
_JSON = JSON(none_as_null=True)  # not PostgreSQL's JSONB, which gives other digits back

_TABLES = MetaData()

PREDICTIONS = Table(
    "predictions",
    _TABLES,
    Column("id", _TEXT, primary_key=True),
    Column("model", _TEXT, primary_key=True),
    Column("device", _TEXT, nullable=False),
    Column("session", _TEXT, nullable=False),
    Column("index", BigInteger, nullable=False),
    Column("start", Double, nullable=False),
    Column("end", Double, nullable=False),
    Column("label", _TEXT, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("probabilities", _JSON, nullable=False),
    Column("features", _JSON),
    Column("sampled_at", Double, nullable=False),
    Column("predicted_at", Double, nullable=False),
    Column("signal", _JSON),
    Index("predictions_by_device", "device", "end"),
    Index("predictions_by_session", "session", "index"),
    Index("predictions_by_end", "end"),
    Index("predictions_by_label", "label", "end"),
)

ALARMS = Table(
    "alarms",
    _TABLES,
    Column("id", _TEXT, primary_key=True),
    Column("model", _TEXT, primary_key=True),
    Column("scope", _TEXT, nullable=False),
    Column("device", _TEXT, nullable=False),
    Column("cause", _TEXT, nullable=False),
    Column("axes", _JSON, nullable=False),
    Column("text", _TEXT, nullable=False),
    Column("advice", _TEXT, nullable=False),
    Column("since", Double, nullable=False),
    Column("raised", Double, nullable=False),
    Column("certainty", Double, nullable=False),
    Column("ended", Double),
    Index("alarms_by_device", "device", "raised"),
    Index("alarms_by_raised", "raised"),
)

# An answer that takes longer is none: the caller goes on with something else and asks again.
_CONNECT_S = 3
_LOCKED_S = 2.0
_LOCKED_AGAIN_S = 0.01
_STATEMENT_S = 30
_FETCH_ROWS = 1_000

_Where = list[ColumnElement[bool]]


class _SqlStore(ABC):
    """What SQLite and PostgreSQL have in common; see `store.interface.Store` for the methods."""

    _insert: Any  # the dialect's own, which knows ON CONFLICT
    _before_writing: tuple[str, ...]
    _before_preparing: tuple[str, ...] = ()

    def __init__(self, name: str, engine: Engine, features: bool) -> None:
        self.name = name
        self._engine = engine
        self._features = features

    @abstractmethod
    def _fits(self, column: Column[str], pattern: str) -> ColumnElement[bool]:
        """Compare with a pattern that is no plain name."""

    @abstractmethod
    def _kind(self, error: BaseException) -> type[StoreError]:
        """Tell what an operational error of the driver means: away, a row that cannot be kept, or wrong for good."""

    @abstractmethod
    def _key_by_model(self, connection: Connection, table: Table, key: str) -> None:
        """Give a table whose key is the id alone, as it was once, the key of today."""

    def prepare(self) -> None:
        """Make the tables and indexes that are not there yet; two stores may do so at the same moment."""
        with self._writing() as connection:
            for statement in self._before_preparing:
                connection.execute(text(statement))
            there = inspect(connection)
            for table in _TABLES.sorted_tables:
                if there.has_table(table.name):
                    key = there.get_pk_constraint(table.name)
                    if key["constrained_columns"] == ["id"]:
                        log.info("%s: the key of %s becomes id and model", self.name, table.name)
                        self._key_by_model(connection, table, str(key["name"]))
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in sorted(table.indexes, key=lambda i: str(i.name)):
                    connection.execute(CreateIndex(index, if_not_exists=True))

    def save(self, predictions: Sequence[Prediction], alarms: Sequence[Alarm]) -> None:
        """Keep them, in one transaction."""
        predicted = [self._row(p) for p in once_each(predictions)]
        raised = [self._row(a) for a in merged(alarms)]
        with self._writing() as connection:
            if predicted:
                connection.execute(self._upsert(PREDICTIONS), predicted)
            if raised:
                connection.execute(self._upsert(ALARMS), raised)

    def _row(self, message: Prediction | Alarm) -> dict[str, Any]:
        row = msgspec.structs.asdict(message)
        del row["v"]
        if isinstance(message, Prediction) and not self._features:
            row["features"] = None
        return row

    def _upsert(self, table: Table) -> Any:
        statement = self._insert(table)
        new = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
        if table is ALARMS:
            new["ended"] = func.coalesce(statement.excluded.ended, ALARMS.c.ended)
        return statement.on_conflict_do_update(index_elements=[table.c.id, table.c.model], set_=new)

    def predictions(self, query: PredictionQuery) -> Iterator[Prediction]:
        """Yield predictions by the end of their windows."""
        columns = PREDICTIONS.c
        where = [*self._named(columns.device, query.device), *self._named(columns.session, query.session)]
        if query.label is not None:
            where.append(columns.label == query.label)
        if query.from_s is not None:
            where.append(columns.end >= query.from_s)
        if query.to_s is not None:
            where.append(columns.end < query.to_s)
        for row in self._rows(_ordered(PREDICTIONS, "end", where, query.newest)):
            row["features"] = row["features"] or []
            yield Prediction(v=fields.VERSION, **row)

    def alarms(self, query: AlarmQuery) -> Iterator[Alarm]:
        """Yield alarms by when they were raised."""
        columns = ALARMS.c
        where = self._named(columns.device, query.device)
        if query.from_s is not None:
            where.append(or_(columns.ended.is_(None), columns.ended >= query.from_s))
        if query.to_s is not None:
            where.append(columns.raised < query.to_s)
        for row in self._rows(_ordered(ALARMS, "raised", where, query.newest)):
            yield Alarm(**row)

    def _named(self, column: Column[str], pattern: str | None) -> _Where:
        if pattern is None:
            return []
        return [column == pattern if is_plain(pattern) else self._fits(column, pattern)]

    def _rows(self, statement: Select[Any]) -> Iterator[dict[str, Any]]:
        with self._translated(), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=_FETCH_ROWS).execute(statement).mappings():
                yield dict(row)

    def delete_before(self, event_time_s: float, most: int) -> int:
        """Delete what ended before a time, at most `most` of each table."""
        gone = 0
        with self._writing() as connection:
            for table, ended in ((PREDICTIONS, PREDICTIONS.c.end), (ALARMS, ALARMS.c.ended)):
                old = select(table.c.id, table.c.model).where(ended < event_time_s).order_by(ended).limit(most)
                gone += connection.execute(delete(table).where(tuple_(table.c.id, table.c.model).in_(old))).rowcount
        return gone

    def close(self) -> None:
        """Let go of connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._translated(), self._engine.begin() as connection:
            for statement in self._before_writing:
                connection.execute(text(statement))
            yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.DataError, exc.IntegrityError) as error:
            raise RefusedRowError(f"{self.name}: {_first_line(error.orig)}") from error
        except (OverflowError, UnicodeEncodeError) as error:  # of the driver, before the database sees it
            raise RefusedRowError(f"{self.name}: {error}") from error
        except (exc.OperationalError, exc.InterfaceError) as error:
            kind = StoreUnavailableError if error.orig is None else self._kind(error.orig)
            if kind is StoreError:
                raise StoreError(self._refusal(error)) from error
            raise kind(f"{self.name}: {_first_line(error.orig or error)}") from error
        except exc.DBAPIError as error:
            raise StoreError(self._refusal(error)) from error

    def _refusal(self, error: exc.DBAPIError) -> str:
        return f"{self.name}: {_first_line(error.orig)}; is it a store that repstream store made?"


def _ordered(table: Table, by: str, where: _Where, newest: int | None) -> Select[Any]:
    """All that fit by a time, or of these the last ones by that time."""
    order = [table.c[name] for name in (by, "id", "model")]
    if newest is None:
        return select(table).where(*where).order_by(*order)
    last = select(table).where(*where).order_by(*(column.desc() for column in order)).limit(newest).subquery()
    return select(last).order_by(last.c[by], last.c.id, last.c.model)


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]


def _engine(url: URL, **connect_args: Any) -> Engine:
    # SQL's errors would show rows, that is what people did; ours name the fault alone.
    return create_engine(
        url,
        connect_args=connect_args,
        hide_parameters=True,
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
    )


class SqliteStore(_SqlStore):
    """A SQLite file: one writer, and readers that it does not hold up.

    Parameters
    ----------
    path : Path
        The file; its folder is made by `prepare`.
    features : bool
        Whether to keep the features of predictions.
    """

    _insert = staticmethod(sqlite.insert)
    # Offsets are committed to Kafka after a write, so it must outlive a power cut, too. Rows come in no order
    # of the indexes: with their pages in memory (64 MB) writing is half as fast again.
    _before_writing = ("PRAGMA synchronous = FULL", "PRAGMA cache_size = -65536")

    # Whoever makes or changes tables does so alone.
    _before_preparing = ("BEGIN IMMEDIATE",)

    def __init__(self, path: Path, features: bool) -> None:
        self._path = path
        super().__init__(str(path), _engine(URL.create("sqlite", database=str(path)), timeout=_LOCKED_S), features)

    def prepare(self) -> None:
        """Make the file, tables and indexes that are not there yet."""
        try:
            self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._path}: its folder cannot be made ({error})") from None
        if not self._path.exists():
            # SQLite gives the files beside it the rights of this one.
            with contextlib.suppress(OSError):  # SQLite says why it cannot be made
                self._path.touch(FILE_MODE)
        self._switch_to_wal()
        super().prepare()

    def _switch_to_wal(self) -> None:
        """Let who reads not wait for who writes: a property of the file.

        SQLite refuses the switch at once, without waiting for `_LOCKED_S`, while another connection is at the file,
        be it one that makes the same switch.
        """
        deadline = time.monotonic() + _LOCKED_S
        while True:
            try:
                with self._translated(), self._engine.connect() as connection:
                    connection.execute(text("PRAGMA journal_mode = WAL"))
            except StoreUnavailableError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCKED_AGAIN_S)
            else:
                return

    def _key_by_model(self, connection: Connection, table: Table, key: str) -> None:
        # SQLite changes no key: the rows move to a new table.
        before = table.to_metadata(MetaData(), name=f"{table.name}_before")
        connection.execute(text(f"ALTER TABLE {table.name} RENAME TO {before.name}"))
        for index in table.indexes:
            connection.execute(DropIndex(index, if_exists=True))
        connection.execute(CreateTable(table))
        connection.execute(insert(table).from_select(table.columns.keys(), select(before)))
        connection.execute(DropTable(before))

    def _fits(self, column: Column[str], pattern: str) -> ColumnElement[bool]:
        return column.bool_op("GLOB")(as_glob(pattern))

    def _kind(self, error: BaseException) -> type[StoreError]:
        # Locked, full, unreadable and so on have codes of their own; SQLITE_ERROR is a statement that is wrong here.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return StoreError if code & 0xFF == sqlite3.SQLITE_ERROR else StoreUnavailableError


class PostgresStore(_SqlStore):
    """A database of PostgreSQL.

    Parameters
    ----------
    url : str
        ``postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE``; options of libpq may follow.
    name : str
        The same without the password, to be shown.
    features : bool
        Whether to keep the features of predictions.
    """

    _insert = staticmethod(postgresql.insert)
    _before_writing = (f"SET LOCAL statement_timeout = '{_STATEMENT_S}s'",)
    # IF NOT EXISTS is none where another store is making the same at this moment: one after the other, by a lock
    # that ends with the transaction. Its number is anything that nobody else is likely to have.
    _before_preparing = (f"SELECT pg_advisory_xact_lock({int.from_bytes(b'repstrm', 'big')})",)

    def __init__(self, url: str, name: str, features: bool) -> None:
        try:
            parsed = make_url(url)
        except exc.ArgumentError:
            raise SettingsError(f"{name} is no URL of a PostgreSQL database") from None
        # A host that vanished is noticed within seconds, and not by the kernel's two hours.
        watched = {"tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
        super().__init__(name, _engine(parsed, connect_timeout=_CONNECT_S, **watched), features)

    def _key_by_model(self, connection: Connection, table: Table, key: str) -> None:
        connection.execute(text("SET LOCAL statement_timeout = 0"))  # many rows take their time
        connection.execute(text(f'ALTER TABLE {table.name} DROP CONSTRAINT "{key}", ADD PRIMARY KEY (id, model)'))

    def _fits(self, column: Column[str], pattern: str) -> ColumnElement[bool]:
        return column.like(as_like(pattern), escape="\\")

    def _kind(self, error: BaseException) -> type[StoreError]:
        # Class 54 is a limit of the program: a text that is too long for an index, for example.
        is_limit = (getattr(error, "sqlstate", None) or "").startswith("54")
        return RefusedRowError if is_limit else StoreUnavailableError
