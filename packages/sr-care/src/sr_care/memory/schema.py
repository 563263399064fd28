"""The memory file: how it is opened, created, recognised and brought to the present schema.

One SQLite file in WAL mode: several processes write in turn while others read. ``synchronous=FULL`` makes an
acknowledged write survive the death of the process and of the machine.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_care.errors import StoreError

APPLICATION_ID = 0x43415245  # "CARE" in the file's header: another program's database is never written to

_ENTRIES = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL, campaign INTEGER NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
    seed INTEGER, recorded_at TEXT NOT NULL,
    algorithm TEXT NOT NULL, lr REAL NOT NULL, steps INTEGER NOT NULL,
    group_size INTEGER, prompts INTEGER, penalty REAL,
    family TEXT, model_parameters REAL, pass1 REAL, passk REAL,
    positive_rate REAL, entropy REAL, unique_share REAL,
    start REAL, peak REAL, peak_step INTEGER, "end" REAL, kept REAL,
    confidence REAL NOT NULL, delta BLOB NOT NULL,
    UNIQUE (run, campaign, attempt)
);
CREATE INDEX entries_alike ON entries (family, algorithm);
CREATE TABLE forgotten (entry INTEGER PRIMARY KEY REFERENCES entries, reason TEXT NOT NULL, at TEXT NOT NULL);
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
"""

_SUMMARIES = """
CREATE TABLE summaries (
    model TEXT NOT NULL, upto INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (model, upto)
);
CREATE TABLE pins (run TEXT PRIMARY KEY, horizon INTEGER NOT NULL);
"""

_STARTS = "ALTER TABLE entries ADD COLUMN start_from INTEGER;"

MIGRATIONS = (_ENTRIES, _SUMMARIES, _STARTS)
"""Script i brings schema i to schema i + 1; a new file runs all of them."""

SCHEMA_VERSION = len(MIGRATIONS)


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one StoreError line with the way out."""
    try:
        yield
    except (OverflowError, UnicodeEncodeError) as error:  # of a number or a text asked for
        raise StoreError(f"{path} can hold no such value ({error}); ask for another") from error
    except sqlite3.Error as error:
        raise StoreError(f"{_advice(path, error)} (SQLite: {error})") from error


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "DEFERRED") -> Iterator[None]:
    """All that is read in it is of one moment; all that is written in it is kept, or nothing on an error.

    Who reads first and then writes needs ``kind`` "IMMEDIATE": a lock is waited for at its beginning only."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _advice(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "not a database" in text or "malformed" in text or "file is encrypted" in text:
        return f"{path} is damaged or no memory file; restore a copy, or move it away to start a new one"
    if "readonly" in text:
        return f"{path} cannot be written; move it to a writable place, or open it with read_only=True"
    if "unable to open" in text:
        return f"{path} cannot be opened; it must be a file in a folder that exists and can be written to"
    if "full" in text or "disk I/O" in text:
        return f"{path}: the disk took no more, nothing of this write was kept; free some space and repeat it"
    if "locked" in text:
        return f"{path} is held by another writer for longer than the time-out; repeat, or raise timeout_s"
    return f"{path}: the memory file refused"


def connect(path: Path, *, read_only: bool, create: bool, timeout_s: float) -> sqlite3.Connection:
    """Open ``path``, migrating it unless ``read_only``, creating it if ``create`` and not ``read_only``. StoreError
    when that cannot be.

    Any number of processes may do so at once: each waits for the others up to ``timeout_s`` at every lock it needs.
    Read-only opening works on a read-only disk too: there no writer can exist, so the file is taken as
    immutable.
    """
    if str(path) == ":memory:":
        raise StoreError("a memory must be a file on disk, got ':memory:'; name a path")
    if (read_only or not create) and not path.is_file():
        raise StoreError(f"the memory must exist, {path} does not; name an existing file, as seen from this folder")
    with store_errors(path):
        connection = _open_for_reading(path, timeout_s) if read_only else _open(path, timeout_s)
        try:
            _prepare(connection, path, read_only=read_only, timeout_s=timeout_s)
        except BaseException:
            connection.close()
            raise
    return connection


def _open(path: Path, timeout_s: float, mode: str = "rwc") -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)


def _open_for_reading(path: Path, timeout_s: float) -> sqlite3.Connection:
    connection = _open(path, timeout_s, "ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise
        # a WAL file needs its companions, which a read-only folder cannot hold
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size > 0:
            raise StoreError(
                f"{path} cannot be read: its last writes are in {log.name}, which SQLite reads in a writable folder "
                "only; copy both there"
            ) from error
        connection = _open(path, timeout_s, "ro&immutable=1")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, *, read_only: bool, timeout_s: float) -> None:
    with transaction(connection):
        version = _recognise(connection, path)
    if read_only:
        if version == 0:
            raise StoreError(f"{path} is empty, no memory yet; name another file")
        if version < SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema {version}, this version reads {SCHEMA_VERSION}; open it once for writing"
            )
        return
    if version < SCHEMA_VERSION:
        if version == 0:
            _use_wal(connection, timeout_s)
        _migrate(connection, path)
    _require_writable(connection)
    connection.execute("PRAGMA synchronous = FULL")
    # at a million entries the index outgrows the default 2 MB of cache, and writing slows to half
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA wal_autocheckpoint = 8000")


def _require_writable(connection: sqlite3.Connection) -> None:
    """Raise what a first write would raise: it may come only after hours of training. Nothing is written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _use_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch the journal to WAL. Here SQLite does not wait for a lock by itself: the switch goes from reading to
    writing, where two who wait would wait for each other. A failed try gives up both, so trying again is safe."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
        time.sleep(0.005)


def _recognise(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version, 0 for an empty file; StoreError for what is not ours or too new.

    The caller holds the transaction: another process may be creating the file.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and application != APPLICATION_ID:
        raise StoreError(f"{path} is another program's database; name a memory file or a new one")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, this version knows up to {SCHEMA_VERSION}; upgrade sr-care")
    return 0 if empty else version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run the missing scripts in one transaction; another process may have been faster."""
    with transaction(connection, "IMMEDIATE"):
        for number in range(_recognise(connection, path), SCHEMA_VERSION):
            for statement in _statements(MIGRATIONS[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would commit in the middle of the
    migration."""
    statement = ""
    for piece in script.split(";")[:-1]:
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
