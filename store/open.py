"""A store by its URL: SQLite, PostgreSQL or MongoDB; the password in it is never shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from repstream.errors import SettingsError
from store.interface import Store, StoreError

EXAMPLES = "sqlite:///FILE, postgresql://USER@HOST/DATABASE or mongodb://HOST/DATABASE"
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
_MONGODB = ("mongodb", "mongodb+srv")


def open_store(url: str, *, writing: bool = False, features: bool = False) -> Store:
    """Open the store that a URL names; nothing is asked of it yet.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` (with four slashes an absolute path), ``postgresql://…`` or ``mongodb://…``.
    writing : bool
        Else a SQLite file that is not there is an error, and not made.
    features : bool
        Whether to keep the features of what is saved.

    Raises
    ------
    SettingsError
        Where the URL is not one of these.
    StoreError
        Where there is no such file, or the package for this database is missing.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SettingsError(f"the store's URL cannot be read (it is not shown); it is {EXAMPLES}") from None
    scheme = parts.scheme.lower()
    try:
        if scheme == "sqlite":
            return _open_sqlite(url, parts, writing, features)
        if scheme in _POSTGRESQL:
            from store.sql import PostgresStore

            return PostgresStore(f"postgresql+psycopg:{url.partition(':')[2]}", shown(url), features)
        if scheme in _MONGODB:
            from store.mongo import MongoStore

            return MongoStore(url, shown(url), features)
    except ImportError as error:
        extra = "store,postgres" if scheme in _POSTGRESQL else "store"
        raise StoreError(
            f"{shown(url)}: the package {error.name} is missing; run: pip install 'repstream[{extra}]'"
        ) from None
    raise SettingsError(f"{shown(url)} names no store; it is {EXAMPLES}")


def _open_sqlite(url: str, parts: SplitResult, writing: bool, features: bool) -> Store:
    from store.sql import SqliteStore

    if parts.netloc or len(parts.path) < 2:
        raise SettingsError(
            f"{shown(url)} names no file; write sqlite:///FILE, or sqlite:////FOLDER/FILE from the root"
        )
    path = Path(url.partition("///")[2])
    if not writing and not path.is_file():
        raise StoreError(f"{path}: there is no such store; repstream store --store sqlite:///{path} makes it")
    return SqliteStore(path, features)


def shown(url: str) -> str:
    """A URL as it may be logged: without password and without options, which can hold one."""
    scheme, _, rest = url.partition("://")
    place, _, options = rest.partition("?")
    if not rest or "@" in options:  # an "@" there may be part of a password that was not escaped
        return f"{scheme}://…" if rest else "the URL given"
    credentials, at, host = place.rpartition("@")
    return f"{scheme}://{credentials.partition(':')[0]}{at}{host}"
