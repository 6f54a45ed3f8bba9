# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What maintenance speaks of: tables, indexes, settings, wishes, and the acts that are decided.

Sizes in bytes, ages of transactions in transactions, times in seconds; "ago" counts from now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action

VACUUM, FREEZE, ANALYZE = "vacuum", "freeze", "analyze"
REINDEX, REWRITE, LEFTOVER = "reindex", "rewrite", "drop leftover"
KINDS = (FREEZE, VACUUM, ANALYZE, LEFTOVER, REINDEX, REWRITE)
MEASURES = (VACUUM, ANALYZE, REINDEX, REWRITE)
BLOCK = 8192
Numbers = Mapping[str, object]


@dataclass(frozen=True)
class Settings:
    """The server's own thresholds. max_dead: autovacuum_vacuum_max_threshold of 18, -1 without."""

    dead_rows: int = 50
    dead_share: float = 0.2
    max_dead: int = -1
    inserted_rows: int = 1000
    inserted_share: float = 0.2
    changed_rows: int = 50
    changed_share: float = 0.1
    freeze_age: int = 200_000_000
    multixact_age: int = 400_000_000


@dataclass(frozen=True)
class Toast:
    """The table that keeps a table's long values."""

    dead: int = 0
    live: int = 0
    bytes: int = 0
    xid_age: int = 0
    mxid_age: int = 0


@dataclass(frozen=True)
class Table:
    """A table as catalog and statistics have it. kind: r, m, or p for a partitioned parent, which has only rows.

    rows: reltuples, -1 when it was never vacuumed or analyzed. vacuumed, analyzed: seconds ago, None for never or
    forgotten. counted: rows inserted less rows deleted since the statistics began; written: all rows written since.
    measured: dead rows that were counted in the table itself, None when it was not looked into.
    autovacuum: "" , "running", or "wraparound" when the one that works there must never be ended.
    root: oid of the topmost partitioned parent, 0 without.
    """

    database: str
    schema: str
    name: str
    oid: int
    kind: str = "r"
    pages: int = 0
    visible: int = 0
    rows: float = 0
    bytes: int = 0
    total_bytes: int = 0
    live: int = 0
    dead: int = 0
    changed: int = 0
    inserted: int = 0
    counted: int = 0
    written: int = 0
    index_scans: int = 0
    scans: int = 0
    vacuumed: float | None = None
    analyzed: float | None = None
    xid_age: int = 0
    mxid_age: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    toast: Toast | None = None
    root: int = 0
    permitted: bool = True
    owner: str = ""
    system: bool = False
    autovacuum: str = ""
    index_bytes: int = 0
    measured: int | None = None

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def dead_rows(self) -> int:
        return self.dead if self.measured is None else self.measured

    @property
    def alive(self) -> float:
        """Rows that thresholds are a share of: the counter where it is believed, else what the catalog remembers."""
        if self.known and self.measured is None:
            return float(self.live)
        return max(0.0, self.rows, float(self.live))

    @property
    def dead_share(self) -> float:
        """Of all rows that lie in the table."""
        return self.dead_rows / max(1.0, self.dead_rows + self.alive)

    @property
    def known(self) -> bool:
        """Whether the counters of dead and changed rows can be believed.

        A crash, a promotion, an upgrade and a copied database leave tables with rows and counters that begin at
        nothing. They are believed once a vacuum or an analyze has set them, or when they explain the rows that are
        there. A table that is empty needs no belief.
        """
        if self.vacuumed is not None or self.analyzed is not None or self.measured is not None or self.bytes == 0:
            return True
        return self.counted >= 0.9 * max(0.0, self.rows)


@dataclass(frozen=True)
class Index:
    """An index. bloat: share of its bytes that a new one would not need; measured: counted in it, not estimated.

    concurrent: whether REINDEX CONCURRENTLY can do it. leftover: what a broken concurrent build left.
    building: somebody builds it now. free: bytes free on its volume, None when nobody can tell.
    """

    database: str
    schema: str
    name: str
    oid: int
    table: int
    bytes: int = 0
    bloat: float | None = None
    measured: bool = False
    concurrent: bool = True
    leftover: bool = False
    building: bool = False
    permitted: bool = True
    free: int | None = None

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Wish:
    """What the inventory asks for a table.

    ahead: share of autovacuum's threshold at which we act already. dead_share, dead_rows: thresholds of our own.
    max_age: seconds after which a table that changed at all is due. freeze: share of autovacuum_freeze_max_age.
    emergency_age: transactions from which indexes are left alone to be faster.
    """

    ahead: float = 0.5
    dead_share: float | None = None
    dead_rows: int | None = None
    changed_share: float | None = None
    visible_share: float = 0.5
    max_age: float | None = None
    freeze: float = 0.75
    emergency_age: int = 1_000_000_000
    index_bloat: float = 0.5
    index_waste: int = 10_000_000
    table_bloat: float = 0.5
    table_waste: int = 100_000_000
    measures: tuple[str, ...] = (VACUUM, ANALYZE, REINDEX)
    skip: bool = False


@dataclass(frozen=True)
class Mark:
    """What an earlier run left in the store about a table or an index; times are seconds ago.

    held: key of the holder that kept it from removing what was dead, "" for none. bytes: size after it was built anew.
    """

    vacuumed: float | None = None
    analyzed: float | None = None
    held: str = ""
    bytes: int = 0
    written: int = 0


@dataclass(frozen=True)
class Act:
    """One thing to do to one object. seconds: estimate. gain: what speaks for it, comparable within a kind.

    table: oid of the table it works in; acts of one table never run beside each other.
    urgent: transactions of age of an emergency, else 0. conditional: only when a sample of the table finds it due.
    """

    kind: str
    database: str
    schema: str
    name: str
    oid: int
    table: int
    reason: str
    seconds: float
    gain: float = 0.0
    urgent: int = 0
    conditional: bool = False
    options: tuple[str, ...] = ()
    measured: Numbers = field(default_factory=dict)
    bytes: int = 0
    activity: int = 0
    last: bool = False

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def light(self) -> bool:
        """Whether it may run beside others."""
        return self.kind in (VACUUM, FREEZE, ANALYZE) and not self.last

    def as_action(self, main: str) -> Action:
        """As a plan shows it. main: the database whose name need not be said."""
        where = self.title if self.database == main else f"{self.database}: {self.title}"
        scope = f"database {self.database}" if self.kind in (VACUUM, FREEZE, ANALYZE) else ""
        about = f"; est. {self.seconds:.0f} s" if self.seconds >= 1 else ""
        return Action(self.kind, where, self.reason + about, dict(self.measured), scope)
