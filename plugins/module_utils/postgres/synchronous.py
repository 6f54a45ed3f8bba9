# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a synchronous standby has what was committed without waiting for it."""

from __future__ import annotations

import time

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

_PATIENCE = 5.0  # seconds that a standby at work may need
_REACHED = (
    "SELECT current_setting('synchronous_standby_names') = '' OR EXISTS (SELECT FROM pg_stat_replication"
    " WHERE sync_state IN ('sync', 'quorum') AND flush_lsn >= {end}::pg_lsn) AS reached"
)


def standby_warning(session: Session) -> str:
    """What to tell when the server wants a synchronous standby and none is seen to have what was committed; or "".

    The commit is there all the same; so no error of the session comes out of here.
    """
    try:
        end = session.value("SELECT pg_current_wal_flush_lsn()::text AS lsn")
        deadline = time.monotonic() + _PATIENCE
        while not session.value(render(_REACHED, end=end)):
            if time.monotonic() > deadline:
                return (
                    "It is committed on this server; no synchronous standby is seen to have it. After a failover to "
                    "one that is behind, run it again."
                )
            time.sleep(0.1)
    except OpsError:
        return ""
    return ""
