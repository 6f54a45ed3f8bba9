# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a built-in check reads: one statement a version range, and many of them in one round trip.

No statement takes a lock that a writer or a migration could hold: sizes come from pg_class, expressions as they are
stored, so that health answers while a table is being rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Union, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Row
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import literal, render

CLUSTER, DATABASE = "cluster", "database"
OLDEST, NEWEST = 130000, 190000

# the session is of no more use
LOST = ("session_ended", "session_timeout", "server_unreachable")
OUT_OF_TIME = OpsError("out_of_time", "there was no time left to look", "Run the verb health, which takes its time.")
_MARK = "saasops_ask"

# rows, or why there are none
Answer = Union["list[Row]", OpsError]


@dataclass(frozen=True)
class Query:
    """name; scope: asked once a cluster, or once a database.

    texts: (server_version_num from which it holds, SELECT), ascending, the first from OLDEST; {name} are parameters.
    """

    name: str
    scope: str
    texts: tuple[tuple[int, str], ...]

    def text(self, version: int) -> str:
        """The statement for a server. Raises OpsError version_unknown for one older than PostgreSQL 13."""
        found = ""
        for start, text in self.texts:
            if version >= start:
                found = text
        if not found:
            raise OpsError(
                "version_unknown",
                f"PostgreSQL {version // 10000} is older than what the built-in checks know.",
                "Upgrade the server to PostgreSQL 13 or newer, or leave the built-in checks out.",
            )
        return found


def bounds(session: Session, seconds: float) -> None:
    """No statement of this session runs longer, or waits for a lock for more than a second."""
    session.run(
        render(
            "SELECT set_config('statement_timeout', {time}, false), set_config('lock_timeout', '1s', false),"
            " set_config('idle_in_transaction_session_timeout', '0', false), set_config('jit', 'off', false),"
            " set_config('default_transaction_read_only', 'on', false)",
            time=str(int(seconds * 1000)),
        )
    )


def ask(
    session: Session, queries: Sequence[Query], values: Mapping[str, object], left: Callable[[], float] | None = None
) -> dict[str, Answer]:
    """Every query's rows by its name: all in one round trip, and each alone when that fails, so that one does not
    spoil the others. A session that has ended spoils what is left.

    Inside a transaction a savepoint keeps it usable. left: seconds that may still be spent; at 0 nothing more is asked.
    """
    answers: dict[str, Answer] = {}
    texts: dict[str, str] = {}
    for query in queries:
        try:
            texts[query.name] = render(query.text(session.version), **values)
        except OpsError as error:
            answers[query.name] = error
    if not texts:
        return answers
    kept = savepoint(session)
    both = [
        f"SELECT {literal(name)} AS name, (SELECT coalesce(json_agg(row_to_json(r)), '[]') FROM ({text}\n) r) AS rows"
        for name, text in texts.items()
    ]
    try:
        rows = session.rows("\nUNION ALL ".join(both))
        return {**answers, **{str(row["name"]): cast(list[Row], row["rows"]) for row in rows}}
    except OpsError as error:
        if error.code in LOST:
            return {**answers, **dict.fromkeys(texts, error)}
    for name, text in texts.items():
        if left is not None and left() <= 0:
            answers[name] = OUT_OF_TIME
            continue
        if kept:
            back(session)
        try:
            answers[name] = cast(list[Row], session.rows(text))
        except OpsError as error:
            answers[name] = error
            if error.code in LOST:
                return {**dict.fromkeys(texts, error), **answers}
    if kept:
        back(session)
    return answers


def savepoint(session: Session) -> bool:
    """Whether there is a transaction, which then has a savepoint to go back to."""
    try:
        session.run(f"SAVEPOINT {_MARK}")
    except OpsError as error:
        if error.code in LOST:
            raise
        return False
    return True


def back(session: Session) -> None:
    """Go back to the savepoint: the transaction can be used again."""
    session.run(f"ROLLBACK TO SAVEPOINT {_MARK}")
