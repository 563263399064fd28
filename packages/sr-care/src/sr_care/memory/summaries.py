"""Sums of evidence kept in the memory file, so that a belief over a million entries is read, not computed.

A summary is the ``Information`` of all remembered entries with ids up to ``upto`` under one model. The newest
one of each model is kept, and those at the horizons that runs have pinned. They can always be rebuilt from
the entries. The caller holds the transaction.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np

from sr_care.belief.effects import NUMBERS, EffectModel, Rows
from sr_care.belief.information import Information
from sr_care.entry import unpack_deltas

CHUNK = 256  # entries summed on the fly at most: about 2 ms
_BLOCK = 1024  # entries turned into arrays at once: some 10 MB
_ROWS = (
    f"SELECT {', '.join(NUMBERS)}, algorithm, family, delta FROM entries WHERE id > ? AND id <= ? "
    "AND id NOT IN (SELECT entry FROM forgotten) ORDER BY id"
)


def last_id(db: sqlite3.Connection) -> int:
    """The id of the newest entry, 0 when there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM entries").fetchone()[0])


def backlog(db: sqlite3.Connection, model: EffectModel, upto: int) -> int:
    """How many ids lie between the newest summary at or before ``upto`` and ``upto``."""
    row = db.execute("SELECT max(upto) FROM summaries WHERE model = ? AND upto <= ?", (model.key, upto)).fetchone()
    return upto - int(row[0] or 0)


def total(db: sqlite3.Connection, model: EffectModel, upto: int) -> Information:
    """The evidence of all remembered entries up to ``upto``."""
    newest = "SELECT upto, data FROM summaries WHERE model = ? AND upto <= ? ORDER BY upto DESC LIMIT 1"
    row = db.execute(newest, (model.key, upto)).fetchone()
    done, information = 0, Information.none()
    if row is not None:
        done, information = int(row[0]), Information.from_bytes(row[1])
    cursor = db.execute(_ROWS, (done, upto))
    while block := cursor.fetchmany(_BLOCK):
        information = information + model.observe(_to_rows(block))
    return information


def advance(db: sqlite3.Connection, model: EffectModel, upto: int, *, always: bool = False) -> None:
    """Store the summary at ``upto`` if the newest one before lies ``CHUNK`` back, or ``always``."""
    behind = backlog(db, model, upto)
    if behind == 0 or (behind < CHUNK and not always):
        return
    data = total(db, model, upto).to_bytes()
    db.execute("INSERT INTO summaries VALUES (?, ?, ?)", (model.key, upto, data))
    db.execute(
        "DELETE FROM summaries WHERE model = ? AND upto < (SELECT max(upto) FROM summaries WHERE model = ?) "
        "AND upto NOT IN (SELECT horizon FROM pins)",
        (model.key, model.key),
    )


def invalidate(db: sqlite3.Connection, model: EffectModel, entry: int) -> None:
    """After ``entry`` was forgotten: drop every summary that counted it and rebuild this model's newest."""
    db.execute("DELETE FROM summaries WHERE upto >= ?", (entry,))
    advance(db, model, last_id(db))


def _to_rows(block: list[tuple[Any, ...]]) -> Rows:
    columns = list(zip(*block, strict=True))
    deltas, errors = unpack_deltas(list(columns[-1]))
    numbers = np.array(columns[: len(NUMBERS)], dtype=float).T
    return Rows(numbers, columns[-3], columns[-2], deltas, errors)
