# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pools of a PgBouncer stand before a database, and what is said of them; PgBouncer's words are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

# modes in which a client gives its server connection back between transactions
SHARING = ("transaction", "statement")


@dataclass(frozen=True)
class Pool:
    """One entry of a pooler's SHOW DATABASES that leads to the live database.

    pooler: its address as "host:port". name: what clients call the database there. paused: by somebody else.
    sharing: every pool of it is in a mode that lets go of servers between transactions. patience: seconds after which
    PgBouncer sends a waiting client away, 0 for never. login_retry: its server_login_retry, as it writes it.
    """

    pooler: str
    name: str
    paused: bool
    sharing: bool
    patience: float = 0.0
    login_retry: str = "15"

    @property
    def label(self) -> str:
        """As records and people name it."""
        return f"{self.name} at {self.pooler}"

    def warnings(self) -> list[str]:
        if self.paused:
            return [f"{self.label} was paused by somebody else, and stays so: RESUME it when its clients may go on."]
        if not self.sharing:
            return [f"{self.label} pools sessions: clients that are connected there are ended, new ones wait."]
        return []


def choose_pools(
    pooler: str,
    databases: Sequence[Mapping[str, str]],
    pools: Sequence[Mapping[str, str]],
    config: Mapping[str, str],
    live: str,
    wanted: str,
) -> list[Pool]:
    """The entries that lead to the database `live`, or the one called `wanted`.

    databases, pools: rows of SHOW DATABASES and SHOW POOLS. config: SHOW CONFIG.
    Raises OpsError pooler_database_unknown.
    """
    found = [
        row
        for row in databases
        if row.get("database") == live and row.get("name") != "pgbouncer" and wanted in ("", row.get("name"))
    ]
    if not found:
        what = f"no database {wanted!r} that leads to {live!r}" if wanted else f"no database that leads to {live!r}"
        raise OpsError(
            "pooler_database_unknown",
            f"The pooler {pooler} serves {what}.",
            "Correct its entry in poolers (saasops_poolers), or take it out; the section [databases] of pgbouncer.ini "
            "and SHOW DATABASES in its console have the names.",
            {"served": sorted(str(row.get("name")) for row in databases)},
        )
    result = []
    for row in found:
        name = row["name"]
        modes = [str(pool.get("pool_mode") or "") for pool in pools if pool.get("database") == name]
        modes = modes or [row.get("pool_mode") or config.get("pool_mode", "session")]
        result.append(
            Pool(
                pooler,
                name,
                row.get("paused") == "1",
                all(mode in SHARING for mode in modes),
                _seconds(config.get("query_wait_timeout")),
                str(_seconds(config.get("server_login_retry", "15"))),
            )
        )
    return result


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def pooler_failure(pooler: str, text: str) -> OpsError:
    """What psql or PgBouncer said when its console was asked, as an error with a remedy."""
    first = " ".join(text.strip().split("\n")[0].split()).rstrip(".") or "no message"
    for words, code, remedy in _KNOWN:
        if any(word in text for word in words):
            return OpsError(code, f"The pooler {pooler} refused: {first}.", remedy, {"pooler": pooler})
    return OpsError(
        "pooler_failed",
        f"The console of the pooler {pooler} failed: {first}.",
        "Look into PgBouncer's log; without the pooler in poolers (saasops_poolers) its clients are ended instead.",
        {"pooler": pooler},
    )


_KNOWN = (
    (
        ("admin access needed", "not allowed"),
        "pooler_not_admin",
        "Add the user to admin_users in pgbouncer.ini and RELOAD it; stats_users may only look.",
    ),
    (
        ("authentication failed", "auth failed", "no password supplied", "no such user", "wrong password"),
        "pooler_wrong_password",
        "Check user and password of its entry in poolers (saasops_poolers) against PgBouncer's auth_file.",
    ),
    (
        (
            "could not connect",
            "could not translate",
            "Connection refused",
            "timeout expired",
            "timed out",
            "No such file",
            "No route to host",
            "closed the connection",
            "connection to server was lost",
            "no answer",
        ),
        "pooler_unreachable",
        "Check its address as the host of the client tools sees it, and that it runs; a pooler that is gone for good "
        "is taken out of poolers (saasops_poolers).",
    ),
)
