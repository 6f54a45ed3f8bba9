# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roll a prepared transaction back, by its name only: nobody but a person knows whether its other half committed."""

from __future__ import annotations

import contextlib

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_choice import ROLL_BACK, Scene, by_gid
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_report import scene_lines
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.activity import read_scene, slots
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import literal


def roll_back(
    target: Target,
    session: Session,
    scene: Scene,
    gid: str,
    before: dict[str, int],
    evidence: dict[str, object],
    context: Context,
) -> Result:
    """gid: its name. One that is gone already changes nothing. Raises OpsError not_permitted, and the server's."""
    item, blocked = by_gid(gid, scene)
    lines = scene_lines(scene, before)
    evidence["lines"] = lines
    if item is None:
        return Result(Plan("sessions", ()), False, f"There is no prepared transaction {gid!r}.", evidence)
    login = scene.ground.login
    if not login.superuser and login.user != item.owner:
        raise OpsError(
            "not_permitted",
            f"{gid!r} was prepared by {item.owner}, and {login.user} may not roll it back.",
            f"Log in as {item.owner}, or as a superuser.",
        )
    reason = f"prepared {item.age:.0f} s ago by {item.owner} in {item.database}"
    plan = Plan("sessions", (Action(ROLL_BACK, gid, reason, {"blocks": blocked}),), {"sessions": 1})
    if context.check_mode:
        return Result(plan, True, f"Prepared transaction {gid!r} would be rolled back.", evidence)
    context.authorise(plan)
    context.admission.says("note", {"code": "sessions_evidence", "lines": lines})
    context.admission.confirm()
    # only from the database that it was prepared in
    with contextlib.closing(target.session(item.database)) as there:
        there.run(f"ROLLBACK PREPARED {literal(gid)}")
    later = read_scene(session, scene.ground)
    now = slots(session)
    after = {**before, "blocked": later.blocked, "free_slots": now.free, "used_slots": now.used}
    evidence["after"] = after
    lines.append(f"prepared transaction {gid!r} is rolled back: blocked {before['blocked']} -> {after['blocked']}")
    return Result(plan, True, f"Prepared transaction {gid!r} is rolled back.", evidence)
