"""The capability-effect memory: what was done, in which context, and what it changed; one SQLite file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from sr_care.belief.effects import EffectModel
from sr_care.belief.posterior import Posterior
from sr_care.entry import Boundary, CapabilityDelta, Context, Entry, Strategy
from sr_care.errors import EntryError, StoreError, check_number
from sr_care.memory import summaries
from sr_care.memory.schema import connect, store_errors, transaction

STRATEGY = ("algorithm", "lr", "steps", "group_size", "prompts", "penalty")
CONTEXT = ("family", "model_parameters", "pass1", "passk", "positive_rate", "entropy", "unique_share")
BOUNDARY = ("start", "peak", "peak_step", "end", "kept")
COLUMNS = (
    "run",
    "campaign",
    "seed",
    "recorded_at",
    "start_from",
    *STRATEGY,
    *CONTEXT,
    *BOUNDARY,
    "confidence",
    "delta",
)
_SELECT = "SELECT id, " + ", ".join(f'"{name}"' for name in COLUMNS) + " FROM entries"
_REMEMBERED = "NOT EXISTS (SELECT 1 FROM forgotten WHERE entry = entries.id)"
_INSERT = (
    "INSERT INTO entries (attempt, "
    + ", ".join(f'"{name}"' for name in COLUMNS)
    + ") VALUES ("
    + ", ".join("?" * (len(COLUMNS) + 1))
    + ")"
)


class CapabilityMemory:
    """Entries in one file; append-only: nothing is ever changed, and what is forgotten is only set aside.

    Several processes may use one file at once, each with its own ``CapabilityMemory`` (SQLite connections
    must not cross a fork or a thread). A write returns when it is on the disk. Beliefs of ``model`` are
    summed up as entries come in, so that recalling one takes milliseconds however many there are. ``path`` is
    created unless ``read_only`` or not to ``create``: then it must exist.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: EffectModel | None = None,
        read_only: bool = False,
        create: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self.path = Path(path)
        self.model = model or EffectModel()
        self.read_only = read_only
        self._db = connect(self.path, read_only=read_only, create=create, timeout_s=timeout_s)

    def __enter__(self) -> CapabilityMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def __len__(self) -> int:
        """How many entries are remembered (without the forgotten ones)."""
        with store_errors(self.path):
            total, gone = self._db.execute(
                "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM forgotten)"
            ).fetchone()
        return int(total) - int(gone)

    def __bool__(self) -> bool:
        return True  # an empty memory is a memory: ``memory or default`` must not throw it away

    # --- writing

    def append(self, entry: Entry) -> int:
        """Write one entry; return its id. EntryError if its (run, campaign) is already remembered."""
        return self.append_many([entry])[0]

    def append_many(self, entries: Iterable[Entry]) -> list[int]:
        """Write all entries or none; return their ids."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        ids = []
        with self._writing():
            attempts = self._attempts()
            for entry in entries:
                attempt = attempts.get((entry.run, entry.campaign), 0)
                row = self._db.execute(_INSERT + " ON CONFLICT DO NOTHING", (attempt, *_to_row(entry, now)))
                if row.rowcount != 1:
                    raise EntryError(_twice(entry))
                ids.append(int(row.lastrowid or 0))
            if ids:
                summaries.advance(self._db, self.model, ids[-1])
        return ids

    def _attempts(self) -> dict[tuple[str, int], int]:
        """For each (run, campaign) of which an entry was forgotten: how many were, the number of the next
        one."""
        rows = self._db.execute(
            "SELECT run, campaign, count(*) FROM entries JOIN forgotten ON entry = id GROUP BY run, campaign"
        )
        return {(run, campaign): count for run, campaign, count in rows}

    def forget(
        self,
        *,
        ids: Sequence[int] | None = None,
        run: str | None = None,
        campaign: int | None = None,
        reason: str = "",
    ) -> int:
        """Set entries aside: by ids, or all of a run, or one campaign of it; return how many.

        They stay in the file's history, are left out of every belief, and their (run, campaign) may be
        written anew. Raises EntryError, and sets none aside, where one of them is not remembered.
        """
        if (ids is None) == (run is None) or (campaign is not None and run is None):
            raise EntryError("to forget, name either entry ids or a run (with a campaign, if only that one)")
        with self._writing():
            found = [entry.id for entry in self.entries(run=run, campaign=campaign, ids=ids)]
            missing = sorted({*(ids or ())} - {*found})
            if missing or (ids is None and not found):
                named = f"run {run!r}" + ("" if campaign is None else f", campaign {campaign}")
                named = f"entries {missing}" if missing else named
                raise EntryError(f"only what is remembered can be forgotten, not {named}: `sr memory list` shows all")
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._db.executemany("INSERT INTO forgotten VALUES (?, ?, ?)", [(i, reason, now) for i in found])
            if run is not None and campaign is None:
                self._db.execute("DELETE FROM pins WHERE run = ?", (run,))
            if found:
                summaries.invalidate(self._db, self.model, found[0])
        return len(found)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it on the disk, or nothing."""
        if self.read_only:
            raise StoreError(f"{self.path} was opened with read_only=True; open it for writing")
        with store_errors(self.path), transaction(self._db, "IMMEDIATE"):
            yield

    # --- beliefs

    def recall(self, *, upto: int | None = None) -> Posterior:
        """What all remembered entries (with ids up to ``upto``) say under this memory's model."""
        with store_errors(self.path):
            last = summaries.last_id(self._db)
            upto = last if upto is None else min(upto, last)
            if not self.read_only and summaries.backlog(self._db, self.model, upto) >= summaries.CHUNK:
                with self._writing():
                    summaries.advance(self._db, self.model, upto)
            with transaction(self._db):
                return Posterior(self.model, summaries.total(self._db, self.model, upto))

    def pin(self, run: str) -> int:
        """The id up to which entries are history for ``run``: all there are, or all before the first that is
        remembered of itself. Fixed at the first call and the same ever after, whatever other processes write
        meanwhile, so that a resumed run sees what the killed one saw; fixed anew once the whole run was
        forgotten by its name."""
        found = self._horizon(run)
        if found is None:
            with self._writing():
                self._db.execute(
                    "INSERT OR IGNORE INTO pins SELECT :run, coalesce("
                    f"(SELECT min(id) - 1 FROM entries WHERE run = :run AND {_REMEMBERED}), "
                    "(SELECT max(id) FROM entries), 0)",
                    {"run": run},
                )
                found = self._horizon(run) or 0
                summaries.advance(self._db, self.model, found, always=True)
        return found

    def _horizon(self, run: str) -> int | None:
        with store_errors(self.path):
            row = self._db.execute("SELECT horizon FROM pins WHERE run = ?", (run,)).fetchone()
        return int(row[0]) if row else None

    # --- reading

    def entries(
        self,
        *,
        run: str | None = None,
        campaign: int | None = None,
        ids: Sequence[int] | None = None,
        family: str | None = None,
        algorithm: str | None = None,
        upto: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        """The remembered entries that meet every condition given, in the order they were written."""
        conditions = {"run": run, "campaign": campaign, "family": family, "algorithm": algorithm}
        given = {name: value for name, value in conditions.items() if value is not None}
        clauses = [_REMEMBERED, *(f"{name} = ?" for name in given)]
        values: list[Any] = list(given.values())
        if ids is not None:
            ids = [check_number("an entry id", number, 0, whole=True) for number in ids]
            clauses.append(f"id IN ({', '.join('?' * len(ids))})")
            values += ids
        if upto is not None:
            clauses.append("id <= ?")
            values.append(upto)
        sql = f"{_SELECT} WHERE {' AND '.join(clauses)} ORDER BY id {'DESC' if newest_first else 'ASC'}"
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        with store_errors(self.path):
            for row in self._db.execute(sql, values):
                yield _to_entry(row)

    def find(self, run: str, campaign: int) -> Entry | None:
        """The remembered entry of a campaign, or None."""
        return next(self.entries(run=run, campaign=campaign), None)

    def entry(self, entry_id: int) -> Entry:
        """The entry of this id. Raises EntryError where it is not remembered."""
        found = next(self.entries(ids=[entry_id]), None)
        if found is None:
            raise EntryError(f"an entry id must be remembered, got {entry_id}; `sr memory list` shows them")
        return found

    def export(self, path: str | Path) -> int:
        """Write all remembered entries to a new file as JSON, one per line; how many. ``PlainMemories.write`` makes a
        memory of them. Raises StoreError where the file exists or cannot be written; a file begun is then removed."""
        path = Path(path)
        try:
            with path.open("x", encoding="utf-8") as file:
                try:
                    count = sum(1 for entry in self.entries() if file.write(json.dumps(entry.to_dict()) + "\n"))
                    file.flush()
                except BaseException:
                    path.unlink()
                    raise
            return count
        except FileExistsError:
            raise StoreError(f"the export needs a new file, got {path}, which exists; name another") from None
        except OSError as error:
            raise StoreError(f"{path} cannot be written ({error.strerror}); name another file") from None


def _twice(entry: Entry) -> str:
    return (
        f"run {entry.run!r} campaign {entry.campaign} is already remembered; use another run name, "
        "or forget that entry first"
    )


def _to_row(entry: Entry, now: str) -> tuple[Any, ...]:
    s, c, b = entry.strategy, entry.context, entry.boundary
    return (
        *(entry.run, entry.campaign, entry.seed, entry.recorded_at or now, entry.start_from),
        *(s.algorithm, s.lr, s.steps, s.group_size, s.prompts, s.penalty),
        *(c.family, c.model_parameters, c.pass1, c.passk, c.positive_rate, c.entropy, c.unique_share),
        *(b.start, b.peak, b.peak_step, b.end, b.kept),
        *(entry.confidence, entry.delta.to_bytes()),
    )


def _to_entry(row: Sequence[Any]) -> Entry:
    number, run, campaign, seed, recorded_at, start_from, *rest = row
    first, second, third = len(STRATEGY), len(STRATEGY) + len(CONTEXT), len(rest) - 2
    return Entry(
        strategy=Strategy(**dict(zip(STRATEGY, rest[:first], strict=True))),
        context=Context(**dict(zip(CONTEXT, rest[first:second], strict=True))),
        boundary=Boundary(**dict(zip(BOUNDARY, rest[second:third], strict=True))),
        confidence=rest[-2],
        delta=CapabilityDelta.from_bytes(rest[-1]),
        run=run,
        campaign=campaign,
        seed=seed,
        recorded_at=recorded_at,
        start_from=start_from,
        id=number,
    )
