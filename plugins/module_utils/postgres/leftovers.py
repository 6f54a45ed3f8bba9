# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interrupted run left behind: processes that carry its mark, backends that carry its name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render


def mark_of(verb: str, system: str, database: str, server: str = "") -> str:
    """The application_name of all sessions and processes of a verb on a database: at most 63 bytes, plain ASCII.

    server is what facts.read_server gives: the client tools of several servers may run on one host, and their systems
    and databases may be named alike. Without it the mark is only a name to show, for the session that asks for it;
    nothing is ended or removed by such a mark.
    """
    identity = hashlib.sha256(f"{system}\0{database}\0{server}".encode()).hexdigest()[:12]
    return f"saasops-{verb}-{identity}"


def end_leftovers(target: Target, session: Session, mark: str, own: Sequence[int]) -> list[str]:
    """End marked processes and backends of a dead run, and say what was ended.

    Call it while holding the database's advisory lock: whoever carries the mark then is not a running verb.
    own are the backend pids of this run's sessions, which stay.
    """
    said = []
    processes = target.transport.find_marked(mark)
    if processes:
        target.transport.end(processes)
        said.append(f"{len(processes)} processes of an interrupted run ended")
    # one statement, so that a pid that was given to somebody else meanwhile is not signalled
    ended = session.value(
        render(
            "SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity"
            " WHERE application_name = {mark} AND pid <> ALL ({own}) AND pid <> pg_backend_pid()",
            mark=mark,
            own=list(own) or [0],
        )
    )
    if ended:
        said.append(f"{ended} backends of an interrupted run ended")
    return said
