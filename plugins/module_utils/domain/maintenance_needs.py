# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one table needs by way of vacuum, freeze and analyze, and what keeps it from being of use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import Holder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    ANALYZE,
    BLOCK,
    FREEZE,
    VACUUM,
    Act,
    Mark,
    Settings,
    Table,
    Wish,
)

# from a table's own option, or the server's setting
OPTIONS = {
    "dead_rows": "autovacuum_vacuum_threshold",
    "dead_share": "autovacuum_vacuum_scale_factor",
    "max_dead": "autovacuum_vacuum_max_threshold",
    "inserted_rows": "autovacuum_vacuum_insert_threshold",
    "inserted_share": "autovacuum_vacuum_insert_scale_factor",
    "changed_rows": "autovacuum_analyze_threshold",
    "changed_share": "autovacuum_analyze_scale_factor",
    "freeze_age": "autovacuum_freeze_max_age",
    "multixact_age": "autovacuum_multixact_freeze_max_age",
}
# what a state of the store is believed for when the statistics were lost
BELIEVED = 86400.0
# ANALYZE samples 300 rows for each unit of the statistics target, each from a page of its own at worst
SAMPLE_PAGES = 30_000
# below this a table's map of visible pages saves nobody a read
MAPPED_PAGES = 128
# an age that would shrink by less than this part of itself is the blocker's, not the table's
FREEZABLE = 0.1
STATISTIC = "pg_catalog.pg_statistic"
CHANGED_ENOUGH = 0.05
# before 18 ANALYZE of a parent goes on to its partitions, which takes a while
ANALYZED_TOGETHER = 600.0


@dataclass(frozen=True)
class Pace:
    """What work costs. read, write: bytes a second; delay: vacuum_cost_delay in seconds, limit: vacuum_cost_limit."""

    read: float = 150e6
    write: float = 60e6
    delay: float = 0.0
    limit: int = 200

    def scan(self, size: float) -> float:
        """Seconds to go once through this many bytes of tables or indexes at VACUUM's own speed."""
        # a page that must be read costs 2 (10 before 14), one that is dirtied 20
        slept = size / BLOCK * 12 / self.limit * self.delay
        return 0.01 + size / self.read + slept


def threshold(settings: Settings, table: Table, name: str) -> float:
    """A threshold of autovacuum for this table."""
    own = table.options.get(OPTIONS[name])
    found = float(own) if own is not None else float(getattr(settings, name))
    if name in ("freeze_age", "multixact_age"):
        # a table's own age may only be lower
        return min(found, float(getattr(settings, name)))
    return found


def dead_limit(settings: Settings, table: Table, wish: Wish) -> float:
    """Dead rows from which a vacuum is due."""
    rows = table.alive
    if wish.dead_share is not None or wish.dead_rows is not None:
        return float(wish.dead_rows or 0) + (wish.dead_share or 0.0) * rows
    limit = threshold(settings, table, "dead_rows") + wish.ahead * threshold(settings, table, "dead_share") * rows
    most = threshold(settings, table, "max_dead")
    return min(limit, most * wish.ahead) if most >= 0 else limit


def changed_limit(settings: Settings, table: Table, wish: Wish, rows: float | None = None) -> float:
    """Changed rows from which the planner's statistics are stale."""
    share = threshold(settings, table, "changed_share") * wish.ahead
    if wish.changed_share is not None:
        share = wish.changed_share
    base = table.alive if rows is None else rows
    return threshold(settings, table, "changed_rows") + share * base


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _overdue(ago: float | None, wish: Wish) -> bool:
    return wish.max_age is not None and (ago is None or ago >= wish.max_age)


def _since(ago: float | None) -> str:
    return "never" if ago is None else f"{human_duration(ago)} ago"


@dataclass(frozen=True)
class Need:
    """kind, why, and what it would bring; blocked names the holder that makes it useless now."""

    kind: str
    reason: str
    gain: float
    urgent: int = 0
    blocked: str = ""
    conditional: bool = False


def _blocker(table: Table, holders: Sequence[Holder], mark: Mark) -> str:
    """Who keeps a vacuum from removing anything that the last one left; "" for nobody.

    All that was dead at the last vacuum and is dead still was held back; so is all that died since, when the holder is
    older than that vacuum. A holder without a known age (a slot, a standby) is recognised by what the last run found,
    as long as it has not moved on.
    """
    for holder in holders:
        if holder.seconds is not None and table.vacuumed is not None and table.vacuumed < holder.seconds:
            return holder.tell()
        if mark.held and mark.held == holder.key and table.vacuumed is not None:
            return holder.tell()
    return ""


def _freeze(settings: Settings, table: Table, wish: Wish, holders: Sequence[Holder]) -> Need | None:
    """Against wraparound, by age of transactions or of multixacts, of the table or of its long values."""
    toast = table.toast
    ages = {
        "transactions": (max(table.xid_age, toast.xid_age if toast else 0), threshold(settings, table, "freeze_age")),
        "multixacts": (
            max(table.mxid_age, toast.mxid_age if toast else 0),
            threshold(settings, table, "multixact_age"),
        ),
    }
    name = max(ages, key=lambda which: ages[which][0] / max(1.0, ages[which][1]))
    age, most = ages[name]
    if age < wish.freeze * most and age < wish.emergency_age:
        return None
    urgent = age if age >= wish.emergency_age else 0
    held = max((holder.age for holder in holders), default=0) if name == "transactions" else 0
    blocked = ""
    if held and age - held < FREEZABLE * age:
        blocked = holders[0].tell()
    reason = f"{age:,} {name} old, {_share(age / most)} of the {most:,.0f} at which autovacuum must"
    return Need(FREEZE, reason, float(age), urgent, blocked)


def _vacuum(settings: Settings, table: Table, wish: Wish) -> Need | None:
    dead, limit = table.dead_rows, dead_limit(settings, table, wish)
    bytes_dead = table.dead_share * table.bytes
    if dead > limit:
        return Need(VACUUM, f"{_share(table.dead_share)} dead, {dead:,} rows (due above {limit:,.0f})", bytes_dead)
    toast = table.toast
    if toast is not None:
        most = threshold(settings, table, "dead_rows") + wish.ahead * settings.dead_share * toast.live
        if toast.dead > most:
            share = toast.dead / max(1, toast.dead + toast.live)
            reason = f"its long values are {_share(share)} dead, {toast.dead:,} pieces (due above {most:,.0f})"
            return Need(VACUUM, reason, share * toast.bytes)
    base = threshold(settings, table, "inserted_rows")
    rows = table.alive
    inserted_limit = base + wish.ahead * threshold(settings, table, "inserted_share") * rows
    if base >= 0 and table.inserted > inserted_limit:
        reason = f"{table.inserted:,} rows inserted since the last vacuum (due above {inserted_limit:,.0f})"
        return Need(VACUUM, reason, 0.1 * table.bytes)
    hidden = 1 - table.visible / table.pages if table.pages else 0.0
    touched = (dead + table.inserted) / max(1.0, rows)
    if (
        table.pages >= MAPPED_PAGES
        and table.index_scans > 0
        and hidden > wish.visible_share
        and (table.vacuumed is None or touched >= CHANGED_ENOUGH)
    ):
        reason = f"{_share(hidden)} of its pages are not all-visible, so index-only scans read the table"
        return Need(VACUUM, reason, 0.05 * table.bytes)
    if _overdue(table.vacuumed, wish) and (dead > 0 or table.inserted > 0):
        reason = f"last vacuum {_since(table.vacuumed)}, {dead:,} rows dead and {table.inserted:,} inserted since"
        return Need(VACUUM, reason, bytes_dead)
    return None


def _analyze(settings: Settings, table: Table, wish: Wish) -> Need | None:
    # the server passes this one over without a word
    if table.title == STATISTIC:
        return None
    if table.live == 0 and table.rows <= 0 and table.changed == 0:
        return None
    limit = changed_limit(settings, table, wish)
    gain = 0.1 * table.bytes * min(1.0, table.changed / max(1.0, table.rows))
    if table.changed > limit:
        return Need(ANALYZE, f"{table.changed:,} rows changed since the last analyze (due above {limit:,.0f})", gain)
    if _overdue(table.analyzed, wish) and table.changed > 0:
        return Need(ANALYZE, f"last analyze {_since(table.analyzed)}, {table.changed:,} rows changed since", gain)
    return None


def _of_root(settings: Settings, root: Table, leaves: Sequence[Table], wish: Wish, mark: Mark) -> Need | None:
    """A partitioned parent has statistics of its own, which autovacuum never makes."""
    rows = sum(leaf.alive for leaf in leaves)
    if rows <= 0:
        return None
    analyzed = root.analyzed if root.analyzed is not None else mark.analyzed
    if analyzed is None:
        return Need(ANALYZE, f"a partitioned parent of {len(leaves)} partitions without statistics", 0.01 * rows)
    written = sum(leaf.written for leaf in leaves)
    if mark.analyzed is not None and 0 < mark.written <= written:
        changed = float(written - mark.written)
    else:
        changed = sum(
            # a partition that was analyzed after its parent: so many rows changed at least
            changed_limit(settings, leaf, Wish(ahead=1.0))
            if leaf.analyzed is not None and leaf.analyzed + ANALYZED_TOGETHER < analyzed
            else float(leaf.changed)
            for leaf in leaves
        )
    limit = changed_limit(settings, root, wish, rows)
    if changed > limit:
        reason = f"about {changed:,.0f} rows of {len(leaves)} partitions changed since its statistics were made"
        return Need(ANALYZE, f"{reason} (due above {limit:,.0f})", 0.01 * changed)
    if _overdue(analyzed, wish) and changed > 0:
        return Need(ANALYZE, f"last analyze {_since(analyzed)}, partitions changed since", 0.01 * changed)
    return None


def _unknown(settings: Settings, table: Table, wish: Wish, mark: Mark) -> Iterator[Need]:
    """The counters began at nothing after the rows were there, and nothing could be counted in the table itself."""
    if mark.vacuumed is not None and mark.vacuumed < BELIEVED:
        return
    limit = dead_limit(settings, table, wish)
    yield Need(ANALYZE, "its statistics were lost; a sample of the table counts rows and dead rows anew", table.bytes)
    if VACUUM in wish.measures:
        yield Need(VACUUM, f"only if that sample finds more than {limit:,.0f} dead rows", 0.0, conditional=True)


def needs(
    settings: Settings,
    table: Table,
    leaves: Sequence[Table],
    wish: Wish,
    holders: Sequence[Holder],
    mark: Mark,
) -> list[Need]:
    """What a table needs, blocked needs included. leaves: of a partitioned parent. holders: of this table's horizon."""
    if wish.skip:
        return []
    found: list[Need | None] = []
    if table.kind == "p":
        return [n for n in [_of_root(settings, table, leaves, wish, mark)] if n and ANALYZE in wish.measures]
    frozen = _freeze(settings, table, wish, holders) if VACUUM in wish.measures else None
    found.append(frozen)
    if table.system and table.pages < MAPPED_PAGES and wish.max_age is None:
        # every analyze leaves dead rows in the catalogs; autovacuum keeps the small ones small
        return [n for n in found if n is not None]
    if not table.known and table.title != STATISTIC:
        unknown = _unknown(settings, table, wish, mark) if ANALYZE in wish.measures else iter(())
        # a freeze removes what is dead too
        found += [n for n in unknown if not (frozen and not frozen.blocked and n.kind == VACUUM)]
        return [n for n in found if n is not None]
    vacuum = _vacuum(settings, table, wish) if VACUUM in wish.measures else None
    if vacuum is not None and (frozen is None or frozen.blocked):
        blocked = _blocker(table, holders, mark)
        found.append(Need(VACUUM, vacuum.reason, vacuum.gain, blocked=blocked))
    found.append(_analyze(settings, table, wish) if ANALYZE in wish.measures else None)
    return [n for n in found if n is not None]


def act_of(need: Need, table: Table, pace: Pace, leaves: Sequence[Table] = ()) -> Act:
    """The act that answers a need, with its cost and its numbers."""
    options: tuple[str, ...] = ()
    pages = table.pages or table.bytes // BLOCK
    toast = table.toast.bytes if table.toast else 0
    numbers: dict[str, object] = {}
    if need.kind == ANALYZE:
        pages = sum(leaf.pages for leaf in leaves) or pages
        seconds = 0.02 + min(pages, SAMPLE_PAGES) * BLOCK / pace.read
        if table.kind == "p":
            numbers = {"partitions": len(leaves), "written": sum(leaf.written for leaf in leaves)}
        else:
            numbers = {"changed": table.changed, "rows": int(table.alive)}
    else:
        hidden = max(0, pages - table.visible) * BLOCK
        size: float = hidden + toast
        if table.dead_rows:
            size += table.index_bytes
        if need.kind == FREEZE:
            size = float(table.bytes + toast + table.index_bytes)
            numbers = {"age": table.xid_age, "multixact_age": table.mxid_age}
            if need.urgent:
                options = ("INDEX_CLEANUP off", "TRUNCATE off")
                size -= table.index_bytes
        numbers = {**numbers, "dead": table.dead_rows, "rows": int(table.alive), "bytes": table.bytes}
        seconds = pace.scan(0 if need.conditional else size)
    return Act(
        kind=need.kind,
        database=table.database,
        schema=table.schema,
        name=table.name,
        oid=table.oid,
        table=table.oid,
        reason=need.reason,
        seconds=seconds,
        gain=need.gain,
        urgent=need.urgent,
        conditional=need.conditional,
        options=options,
        measured=numbers,
        bytes=table.bytes,
        activity=table.written + table.scans,
    )


def after_analyzes(settings: Settings, statistic: Table, analyzes: int, tables: int, wish: Wish) -> Need | None:
    """A vacuum of pg_statistic, when so many ANALYZEs of so many tables will leave it with too many dead rows."""
    dead = statistic.dead_rows + analyzes * max(0.0, statistic.rows) / max(1, tables)
    limit = dead_limit(settings, statistic, wish)
    if statistic.pages < MAPPED_PAGES or dead <= limit or VACUUM not in wish.measures or not statistic.permitted:
        return None
    return Need(VACUUM, f"only if the new statistics leave more than {limit:,.0f} dead rows", 0.0, conditional=True)
