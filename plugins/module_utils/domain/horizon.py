# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps VACUUM from removing dead rows, and CREATE INDEX CONCURRENTLY from ending: whoever may still see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration

SESSION, PREPARED, SLOT, STANDBY = "session", "prepared transaction", "replication slot", "standby"


@dataclass(frozen=True)
class Holder:
    """Something that holds the removable horizon back.

    name: the pid, gid, slot or standby. age: transaction ids since. seconds: how long, None when that is not known.
    database: the only one that it holds back, "" for all. catalogs: it holds back system catalogs only.
    xid: the oldest transaction id that it may still see.
    """

    kind: str
    name: str
    age: int
    seconds: float | None = None
    database: str = ""
    catalogs: bool = False
    detail: str = ""
    xid: str = ""

    @property
    def key(self) -> str:
        """Who it is and how far back: a standby or a slot that has moved on since is another one."""
        return f"{self.kind} {self.name} at {self.xid}"

    def tell(self) -> str:
        """One sentence's part: who it is and since when."""
        since = "" if self.seconds is None else f" for {human_duration(self.seconds)}"
        what = f" ({self.detail})" if self.detail else ""
        only = " of system catalogs" if self.catalogs else ""
        return f"{self.kind} {self.name}{what} holds dead rows{only} back{since}, {self.age:,} transactions"


@dataclass(frozen=True)
class Horizon:
    """All holders, and whether the role may see everybody's (pg_read_all_stats)."""

    holders: tuple[Holder, ...]
    complete: bool = True

    def of(self, database: str, *, catalogs: bool = False) -> tuple[Holder, ...]:
        """Those that hold tables (or also catalogs) of this database back, the oldest first."""
        found = [h for h in self.holders if h.database in ("", database) and (catalogs or not h.catalogs)]
        return tuple(sorted(found, key=lambda h: (-h.age, h.kind, h.name)))

    def age(self, database: str) -> int:
        """Transactions since the oldest holder of a database's tables began; 0 without one."""
        return max((h.age for h in self.of(database)), default=0)


def older(holders: Sequence[Holder], seconds: float) -> list[Holder]:
    """Those that are known to hold on for longer than this."""
    return [h for h in holders if h.seconds is not None and h.seconds > seconds]
