"""A store in MongoDB, by pymongo: a document a message, `_id` holds its id and its model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import bson
import msgspec
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient, ReplaceOne, UpdateOne
from pymongo import errors as mongo_errors
from pymongo.collection import Collection

from repstream.errors import SettingsError
from repstream.messages import fields
from repstream.messages.messages import Alarm, Prediction
from store.interface import (
    AlarmQuery,
    PredictionQuery,
    RefusedRowError,
    StoreError,
    StoreUnavailableError,
    as_regex,
    is_plain,
    merged,
    once_each,
)

log = logging.getLogger(__name__)

DEFAULT_DATABASE = "repstream"

# Overridden by the same options in the URL. An answer that takes longer is none: the caller goes on with
# something else and asks again. Written means on the disk of most members: offsets are committed after it.
_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 30_000,
    "w": "majority",
    "journal": True,
}

_INDEXES = {
    "predictions": (("device", "end"), ("session", "index"), ("end",), ("label", "end")),
    "alarms": (("device", "raised"), ("raised",), ("ended",)),
}

_NO_SUCH_COMMAND = 59

# A document is too large, too deep or is none for this server; its neighbours in a batch are well.
_REFUSED_CODES = {2, 9, 15, 22, 52, 57, 121, 10334, 17280, 17419}

# The largest document of MongoDB is 16 MiB, what an update adds included.
_MAX_BYTES = 16 * 1024 * 1024 - 16 * 1024
# So many documents of an older release are moved at once.
_MOVED = 1_000

_Document = Mapping[str, Any]


class MongoStore:
    """A database of MongoDB; see `store.interface.Store` for the methods.

    Parameters
    ----------
    url : str
        ``mongodb://USER:PASSWORD@HOST:PORT/DATABASE?OPTIONS``; the database is "repstream" where none is named.
    name : str
        The same without the password, to be shown.
    features : bool
        Whether to keep the features of predictions.

    Raises
    ------
    SettingsError
        Where the URL is not one of MongoDB's.

    Notes
    -----
    A server that speaks MongoDB's protocol but knows no logins at all is used without one, with a warning. MongoDB
    itself always knows them and refuses a wrong one.
    """

    def __init__(self, url: str, name: str, features: bool) -> None:
        self.name = name
        self._features = features
        self._is_login_untried = "@" in urlsplit(url).netloc
        self._url = url
        self._open(url)

    def _open(self, url: str) -> None:
        given = {option.lower() for option, _ in parse_qsl(urlsplit(url).query)}
        options = {option: value for option, value in _OPTIONS.items() if option.lower() not in given}
        try:
            self._client: MongoClient[_Document] = MongoClient(url, **options)
            database = self._client.get_default_database(DEFAULT_DATABASE)
        except (mongo_errors.PyMongoError, ValueError) as error:
            raise SettingsError(f"{self.name} is no URL of a MongoDB database ({type(error).__name__})") from None
        self._predictions: Collection[_Document] = database["predictions"]
        self._alarms: Collection[_Document] = database["alarms"]

    def _log_in(self) -> None:
        """Find out, once, whether the server knows logins."""
        if not self._is_login_untried:
            return
        try:
            self._client.admin.command("ping")
        except mongo_errors.OperationFailure as error:
            if error.code != _NO_SUCH_COMMAND or "saslStart" not in str(error):
                raise
            log.warning("%s: this server knows no logins; whoever reaches it may read and write; going on", self.name)
            self._client.close()
            parts = urlsplit(self._url)
            self._open(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        self._is_login_untried = False

    def prepare(self) -> None:
        """Make the indexes that are not there yet; documents whose `_id` is the id alone get the one of today."""
        with self._translated():
            self._log_in()
            for collection in (self._predictions, self._alarms):
                self._key_by_model(collection)
                models = [IndexModel([(f, ASCENDING) for f in fields]) for fields in _INDEXES[collection.name]]
                collection.create_indexes(models)

    def _key_by_model(self, collection: Collection[_Document]) -> None:
        """Move documents, some at a time: a kill in between leaves some in both places, for the next start."""
        while old := list(collection.find({"_id": {"$type": "string"}}, limit=_MOVED)):
            log.info("%s: the key of %d %s becomes id and model", self.name, len(old), collection.name)
            moved = []
            for row in old:
                key = _key(row["_id"], row["model"])
                # What was written under the new key is newer.
                moved.append(
                    UpdateOne(key, {"$setOnInsert": {k: v for k, v in row.items() if k != "_id"}}, upsert=True)
                )
            collection.bulk_write(moved, ordered=False)
            collection.delete_many({"_id": {"$in": [row["_id"] for row in old]}})

    def save(self, predictions: Sequence[Prediction], alarms: Sequence[Alarm]) -> None:
        """Keep them, in one bulk each."""
        predicted: list[ReplaceOne[_Document]] = []
        for prediction in once_each(predictions):
            row = _document(prediction)
            if not self._features:
                del row["features"]
            if prediction.signal is None:
                del row["signal"]
            predicted.append(ReplaceOne(_key(prediction.id, prediction.model), self._encoded(row), upsert=True))
        raised = []
        for alarm in merged(alarms):
            row = _document(alarm)
            # No beginning takes back an end.
            once = {"ended": row.pop("ended")} if alarm.ended is None else {}
            del row["_id"]
            change = {"$set": self._encoded(row), "$setOnInsert": once}
            raised.append(UpdateOne(_key(alarm.id, alarm.model), change, upsert=True))
        with self._translated():
            if predicted:
                self._predictions.bulk_write(predicted, ordered=False)
            if raised:
                self._alarms.bulk_write(raised, ordered=False)

    def _encoded(self, row: dict[str, Any]) -> RawBSONDocument:
        """Encode a row, once; a server would close the connection on one that is too large."""
        with self._translated():
            data = bson.encode(row)
        if len(data) > _MAX_BYTES:
            raise RefusedRowError(f"{self.name}: a document of {len(data)} bytes; MongoDB keeps at most {_MAX_BYTES}")
        return RawBSONDocument(data)

    def predictions(self, query: PredictionQuery) -> Iterator[Prediction]:
        """Yield predictions by the end of their windows."""
        wanted = _named(device=query.device, session=query.session)
        if query.label is not None:
            wanted["label"] = query.label
        if span := _span(query.from_s, query.to_s):
            wanted["end"] = span
        for row in self._found("predictions", wanted, "end", query.newest):
            row.setdefault("features", [])
            # Numbers beyond 32 bits come as a type of its own, which JSON has no word for.
            yield Prediction(v=fields.VERSION, **row | {"index": int(row["index"])})

    def alarms(self, query: AlarmQuery) -> Iterator[Alarm]:
        """Yield alarms by when they were raised."""
        wanted = _named(device=query.device)
        if query.from_s is not None:
            wanted["$or"] = [{"ended": None}, {"ended": {"$gte": query.from_s}}]
        if span := _span(None, query.to_s):
            wanted["raised"] = span
        for row in self._found("alarms", wanted, "raised", query.newest):
            yield Alarm(**row)

    def _found(self, name: str, wanted: dict[str, Any], by: str, newest: int | None) -> Iterator[dict[str, Any]]:
        direction = ASCENDING if newest is None else DESCENDING
        with self._translated():
            self._log_in()
            collection = self._alarms if name == "alarms" else self._predictions
            found = collection.find(wanted, batch_size=1_000, allow_disk_use=True)
            found = found.sort([(by, direction), ("_id", direction)])
            documents = found if newest is None else reversed(list(found.limit(newest)))
            for document in documents:
                row = dict(document)
                key = row.pop("_id")
                row["id"] = key if isinstance(key, str) else key["id"]
                yield row

    def delete_before(self, event_time_s: float, most: int) -> int:
        """Delete what ended before a time, at most `most` of each collection."""
        gone = 0
        with self._translated():
            for collection, ended in ((self._predictions, "end"), (self._alarms, "ended")):
                old = collection.find({ended: {"$lt": event_time_s}}, {"_id": 1}).sort(ended, ASCENDING).limit(most)
                ids = [document["_id"] for document in old]
                if ids:
                    gone += collection.delete_many({"_id": {"$in": ids}}).deleted_count
        return gone

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except mongo_errors.BulkWriteError as error:
            failures = error.details.get("writeErrors", [])
            said = failures[0]["errmsg"] if failures else "it was not written to most members"
            if failures and all(f["code"] in _REFUSED_CODES for f in failures):
                raise RefusedRowError(f"{self.name}: {said}") from error
            raise StoreUnavailableError(f"{self.name}: {said}") from error
        except (mongo_errors.DocumentTooLarge, BSONError, OverflowError, UnicodeEncodeError) as error:
            raise RefusedRowError(f"{self.name}: {_short(error)}") from error
        except mongo_errors.ConnectionFailure as error:
            raise StoreUnavailableError(f"{self.name}: {_short(error)}") from error
        except mongo_errors.OperationFailure as error:
            if error.timeout or error.has_error_label("RetryableWriteError"):
                raise StoreUnavailableError(f"{self.name}: {_short(error)}") from error
            raise StoreError(f"{self.name}: {_short(error)}; may this user read and write it?") from error
        except mongo_errors.PyMongoError as error:
            raise StoreError(f"{self.name}: {_short(error)}") from error


def _key(id_: str, model: str) -> dict[str, Any]:
    """Name a document; its order is that of ids, then of models."""
    return {"_id": {"id": id_, "model": model}}


def _document(message: Prediction | Alarm) -> dict[str, Any]:
    row = msgspec.structs.asdict(message)
    del row["v"]
    return {**_key(row.pop("id"), message.model), **row}


def _named(**patterns: str | None) -> dict[str, Any]:
    return {
        field: pattern if is_plain(pattern) else {"$regex": as_regex(pattern), "$options": "s"}
        for field, pattern in patterns.items()
        if pattern is not None
    }


def _span(from_s: float | None, to_s: float | None) -> dict[str, float]:
    return {op: at for op, at in (("$gte", from_s), ("$lt", to_s)) if at is not None}


def _short(error: Exception) -> str:
    """Without the driver's topology and time-outs, which follow the fault."""
    text = str(error).partition(", Timeout:")[0].partition(", full error:")[0].partition(" (configured timeouts")[0]
    return text or type(error).__name__
