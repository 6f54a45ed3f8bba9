# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lock a statement takes on which table, as far as its text tells, and what else makes it dangerous.

From the chapter "Explicit Locking" and the pages of the commands, PostgreSQL 13 to 18. What cannot be told from the
text (DO, CALL, a function, triggers, views) is said to be unknown, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_alter import alter_table
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import (
    ACCESS_EXCLUSIVE,
    EXCLUSIVE,
    LEVELS,
    ROW_EXCLUSIVE,
    SHARE,
    SHARE_ROW_EXCLUSIVE,
    SHARE_UPDATE_EXCLUSIVE,
    Reader,
    Touch,
    Verdict,
    references,
    shown,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import WORD, Statement

_HARMLESS = ("SET", "RESET", "SHOW", "NOTIFY", "LISTEN", "DISCARD", "EXPLAIN", "GRANT", "REVOKE", "COMMENT", "SECURITY")


def classify(statement: Statement) -> Verdict:
    """What one statement does to tables."""
    reader = Reader(statement.tokens)
    first = reader.word()
    act = _ACTS.get(first)
    if act is not None:
        return act(reader)
    if first in _HARMLESS:
        return Verdict(first)
    return Verdict(first or "statement", known=False)


def _create(reader: Reader) -> Verdict:
    reader.accept("OR", "REPLACE")
    while reader.any_of("GLOBAL", "LOCAL", "TEMPORARY", "TEMP", "UNLOGGED", "RECURSIVE", "CONSTRAINT", "TRUSTED"):
        pass
    if reader.accept("UNIQUE", "INDEX") or reader.accept("INDEX"):
        return _create_index(reader)
    what = reader.word()
    if what == "TABLE":
        reader.accept("IF", "NOT", "EXISTS")
        made = reader.name()
        # FOREIGN KEY needs the other table's writers to stand still for a moment
        others = tuple(Touch(name, SHARE_ROW_EXCLUSIVE) for name in references(reader.rest()) if name != made)
        if reader.accept("PARTITION", "OF"):
            others += (Touch(reader.name(), ACCESS_EXCLUSIVE),)
        return Verdict("CREATE TABLE", others, makes=(made,))
    if what == "TRIGGER":
        return Verdict("CREATE TRIGGER", (Touch(reader.after("ON"), SHARE_ROW_EXCLUSIVE),))
    if what == "POLICY":
        return Verdict("CREATE POLICY", (Touch(reader.after("ON"), ACCESS_EXCLUSIVE),))
    if what == "RULE":
        return Verdict("CREATE RULE", (Touch(reader.after("TO"), ACCESS_EXCLUSIVE),))
    if what == "STATISTICS":
        return Verdict("CREATE STATISTICS", (Touch(reader.after("FROM"), SHARE_UPDATE_EXCLUSIVE),))
    if what == "MATERIALIZED" or what == "VIEW":
        reader.accept("VIEW")
        reader.accept("IF", "NOT", "EXISTS")
        return Verdict("CREATE VIEW", makes=(reader.name(),))
    never = what in ("DATABASE", "TABLESPACE", "SUBSCRIPTION")
    return Verdict(f"CREATE {what}", in_transaction=not never)


def _create_index(reader: Reader) -> Verdict:
    concurrently = reader.accept("CONCURRENTLY")
    reader.accept("IF", "NOT", "EXISTS")
    index = () if reader.peek() == "ON" else reader.name()
    table = reader.after("ON")
    if concurrently:
        return Verdict(
            "CREATE INDEX CONCURRENTLY",
            (Touch(table, SHARE_UPDATE_EXCLUSIVE),),
            in_transaction=False,
            index=(table[:-1] + index[-1:]) if index else (),
        )
    remark = f"CREATE INDEX on {shown(table)} keeps writers out until it is built: CONCURRENTLY does not"
    return Verdict("CREATE INDEX", (Touch(table, SHARE),), remarks=((table, remark),))


def _drop(reader: Reader) -> Verdict:
    what = reader.word()
    if what == "INDEX":
        concurrently = reader.accept("CONCURRENTLY")
        reader.accept("IF", "EXISTS")
        if concurrently:
            return Verdict("DROP INDEX CONCURRENTLY", in_transaction=False, index=reader.name())
        # the table is not in the text, so its lock cannot be taken beforehand
        return Verdict("DROP INDEX", known=False, note="ACCESS EXCLUSIVE on the index's table")
    if what == "TABLE":
        reader.accept("IF", "EXISTS")
        return Verdict("DROP TABLE", tuple(Touch(name, ACCESS_EXCLUSIVE) for name in reader.names()))
    if what in ("TRIGGER", "POLICY", "RULE"):
        return Verdict(f"DROP {what}", (Touch(reader.after("ON"), ACCESS_EXCLUSIVE),))
    if what in ("DATABASE", "TABLESPACE", "SUBSCRIPTION"):
        return Verdict(f"DROP {what}", in_transaction=False)
    return Verdict(f"DROP {what}")


def _alter(reader: Reader) -> Verdict:
    what = reader.word()
    if what == "TABLE":
        return alter_table(reader)
    if what == "SYSTEM":
        return Verdict("ALTER SYSTEM", in_transaction=False)
    if what == "TYPE":
        reader.name()
        if reader.accept("ADD", "VALUE"):
            note = "the new value cannot be used before the transaction ends"
            return Verdict("ALTER TYPE ADD VALUE", note=note)
        return Verdict("ALTER TYPE", known=False)
    if what == "DATABASE":
        reader.name()
        return Verdict("ALTER DATABASE", in_transaction=not reader.accept("SET", "TABLESPACE"))
    if what in ("TRIGGER", "POLICY", "RULE"):
        return Verdict(f"ALTER {what}", (Touch(reader.after("ON"), ACCESS_EXCLUSIVE),))
    return Verdict(f"ALTER {what}", known=what not in ("DOMAIN", "INDEX"))


def _truncate(reader: Reader) -> Verdict:
    reader.accept("TABLE")
    return Verdict("TRUNCATE", tuple(Touch(name, ACCESS_EXCLUSIVE) for name in reader.names()))


def _lock(reader: Reader) -> Verdict:
    reader.accept("TABLE")
    names = reader.names()
    mode = ACCESS_EXCLUSIVE
    if reader.accept("IN"):
        words = []
        while reader.peek() not in ("MODE", ""):
            words.append(reader.word())
        mode = " ".join(words) if " ".join(words) in LEVELS else ACCESS_EXCLUSIVE
    return Verdict("LOCK TABLE", tuple(Touch(name, mode) for name in names))


def _rows(reader: Reader) -> Verdict:
    word = reader.before()
    reader.any_of("INTO", "FROM")
    return Verdict(word, (Touch(reader.name(), ROW_EXCLUSIVE),))


def _copy(reader: Reader) -> Verdict:
    if reader.peek_sign() == "(":
        return Verdict("COPY", known=False)
    return Verdict("COPY", (Touch(reader.name(), ROW_EXCLUSIVE),))


def _vacuum(reader: Reader) -> Verdict:
    full = any(token.upper == "FULL" for token in reader.rest())
    names = [token.text for token in reader.rest() if token.kind == WORD]
    note = "rewrites the table under ACCESS EXCLUSIVE" if full and names else ""
    return Verdict("VACUUM FULL" if full else "VACUUM", in_transaction=False, note=note)


def _reindex(reader: Reader) -> Verdict:
    words = [token.upper for token in reader.rest()]
    if "CONCURRENTLY" in words:
        reader.skip_brackets()
        what = reader.word()
        reader.accept("CONCURRENTLY")
        return Verdict("REINDEX CONCURRENTLY", in_transaction=False, scope=(what, *reader.name()))
    if {"SCHEMA", "DATABASE", "SYSTEM"} & set(words[:1] + words[-2:-1]):
        return Verdict("REINDEX", in_transaction=False)
    if reader.accept("TABLE"):
        table = reader.name()
        remark = f"REINDEX TABLE {shown(table)} keeps writers out until it is built: CONCURRENTLY does not"
        return Verdict("REINDEX", (Touch(table, SHARE),), remarks=((table, remark),))
    return Verdict("REINDEX", known=False)


def _refresh(reader: Reader) -> Verdict:
    reader.accept("MATERIALIZED", "VIEW")
    mode = EXCLUSIVE if reader.accept("CONCURRENTLY") else ACCESS_EXCLUSIVE
    # LOCK TABLE takes no materialized view, so this one is only shown
    return Verdict("REFRESH MATERIALIZED VIEW", note=f"{mode} on {shown(reader.name())}")


def _cluster(reader: Reader) -> Verdict:
    names = [token for token in reader.rest() if token.kind == WORD]
    if not names:
        return Verdict("CLUSTER", in_transaction=False)
    table = reader.name()
    return Verdict("CLUSTER", (Touch(table, ACCESS_EXCLUSIVE),), rewrites=(table,))


_ACTS = {
    "ALTER": _alter,
    "CLUSTER": _cluster,
    "COPY": _copy,
    "CREATE": _create,
    "DELETE": _rows,
    "DROP": _drop,
    "INSERT": _rows,
    "LOCK": _lock,
    "MERGE": _rows,
    "REFRESH": _refresh,
    "REINDEX": _reindex,
    "TRUNCATE": _truncate,
    "UPDATE": _rows,
    "VACUUM": _vacuum,
}


@dataclass(frozen=True)
class Look:
    """What a whole file does: the strongest lock on each table that was there before it, and what to be warned of.

    unknown: kinds of statements whose locks the text does not tell. never: (line, kind) of what no transaction takes.
    """

    touches: tuple[Touch, ...]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]
    never: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]

    @property
    def heavy(self) -> tuple[Touch, ...]:
        """Locks that make readers wait."""
        return tuple(touch for touch in self.touches if touch.mode == ACCESS_EXCLUSIVE)


def look_at(statements: Sequence[Statement]) -> Look:
    """The locks of a file, those on tables that it makes itself left out."""
    strongest: dict[tuple[str, ...], str] = {}
    made: set[tuple[str, ...]] = set()
    warnings: list[str] = []
    unknown: list[str] = []
    never: list[tuple[int, str]] = []
    notes: list[str] = []
    for statement in statements:
        verdict = classify(statement)
        for touch in verdict.touches:
            if touch.table and touch.table not in made:
                strongest[touch.table] = stronger(strongest.get(touch.table, ""), touch.mode)
        old = [remark for table, remark in verdict.remarks if table not in made]
        warnings += [f"line {statement.line}: {remark}" for remark in old]
        warnings += [
            f"line {statement.line}: {verdict.kind} writes {shown(table)} anew under ACCESS EXCLUSIVE"
            for table in verdict.rewrites
            if table not in made
        ]
        made.update(verdict.makes)
        if not verdict.known:
            unknown.append(verdict.kind)
        if not verdict.in_transaction:
            never.append((statement.line, verdict.kind))
        if verdict.note:
            notes.append(f"line {statement.line}: {verdict.kind}: {verdict.note}")
    touches = tuple(Touch(table, mode) for table, mode in sorted(strongest.items()))
    heavy = [shown(touch.table) for touch in touches if touch.mode == ACCESS_EXCLUSIVE]
    if len(heavy) > 1:
        warnings.append(
            f"{len(heavy)} tables are locked against readers at once ({', '.join(heavy)}): "
            "one file for each lets readers through between them"
        )
    return Look(touches, tuple(warnings), _once(unknown), tuple(never), tuple(notes))


def stronger(one: str, other: str) -> str:
    """The stronger of two lock levels; "" is weaker than all."""
    return max((one, other), key=lambda mode: LEVELS.index(mode) if mode else -1)


def _once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
