# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the server has more to do than maintenance may add to: active sessions, and standbys that lag."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

_ACTIVE = """
SELECT count(*) FROM pg_stat_activity
 WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
   AND NOT starts_with(application_name, {mark})
"""
_LAGS = """
SELECT coalesce(nullif(application_name, ''), pid::text) AS name,
       pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn))::float8 AS bytes
  FROM pg_stat_replication WHERE NOT pg_is_in_recovery() AND coalesce(state, '') <> 'backup'
"""


@dataclass(frozen=True)
class Limits:
    """lag: bytes that a standby may lag behind; active: sessions of others at work; None for any.

    patience: seconds that it may be too much before the work stops. mark: how our own application_names begin.
    asked: whether somebody set lag, who then wants to know when it cannot be seen.
    """

    lag: int | None = None
    active: int | None = None
    patience: float = 60.0
    mark: str = ""
    asked: bool = True

    @property
    def none(self) -> bool:
        return self.lag is None and self.active is None


def too_much(session: Session, limits: Limits) -> str:
    """What is above its limit, in a sentence's part; "" for nothing. Raises not_permitted when lag cannot be seen."""
    if limits.active is not None:
        active = int(str(session.value(render(_ACTIVE, mark=limits.mark))))
        if active > limits.active:
            return f"{active} sessions are at work, {limits.active} may be"
    if limits.lag is None:
        return ""
    for row in session.rows(_LAGS):
        if row["bytes"] is None:
            raise OpsError(
                "not_permitted",
                "The login role may not see how far standbys lag.",
                "GRANT pg_monitor to it, or set max_lag to 0.",
            )
        if float(str(row["bytes"])) > limits.lag:
            lag = human_size(float(str(row["bytes"])))
            return f"standby {row['name']} lags {lag} behind, {human_size(limits.lag)} may be"
    return ""
