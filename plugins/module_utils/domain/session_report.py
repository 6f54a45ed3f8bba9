# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads before and after sessions are ended; values of statements are left out everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import (
    Backend,
    lines,
    tell,
    tell_prepared,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Prepared as PreparedTransaction
from ansible_collections.saasops.runbook.plugins.module_utils.domain.query_shape import shape
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_choice import Chosen, Decision, Scene
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sessions import CLIENT

SHOWN = 20  # sessions of one kind that are told one by one
TREE_LINES = 30


@dataclass(frozen=True)
class Outcome:
    """What became of one session. how: cancelled, terminated, moved on. now: what it is, None when it is gone."""

    item: Chosen
    how: str
    over: bool
    now: Backend | None

    def tell(self) -> str:
        """One line."""
        b = self.item.backend
        if self.how == "moved on":
            return f"pid {b.pid}: had moved on by itself and was left alone"
        if self.over:
            rest = "gone" if self.now is None else f"its {self.item.goal} is over, the session lives"
            return f"pid {b.pid}: {self.how}, {rest}"
        wait = f", waits for {self.now.wait}" if self.now and self.now.wait else ""
        return f"pid {b.pid}: {self.how}, but still there ({self.now.state if self.now else 'unknown'}{wait})"

    def as_dict(self) -> dict[str, object]:
        """For the module's result."""
        b = self.item.backend
        return {
            "pid": b.pid,
            "started": b.started,
            "user": b.user,
            "database": b.database,
            "application": b.application,
            "client": b.client,
            "why": self.item.why,
            "statement": shape(b.query),
            "how": self.how,
            "over": self.over,
            "gone": self.now is None and self.how != "moved on",
        }


def scene_lines(scene: Scene, numbers: Mapping[str, int]) -> list[str]:
    """How the server is: connections by state against the limit, and who waits for whom."""
    states = Counter(b.state or "hidden" for b in scene.backends if b.kind in (CLIENT, "") and b.user)
    by_state = ", ".join(f"{count} {state}" for state, count in states.most_common())
    text = [
        f"connections: {numbers['used_slots']} of {numbers['max_connections']}, {numbers['free_slots']} slots free"
        + (f" ({by_state})" if by_state else "")
    ]
    found = scene.trees
    if found:
        text += [f"{numbers['blocked']} sessions wait for a lock:", *lines(found, TREE_LINES)]
    for tree in found:
        if isinstance(tree.root, PreparedTransaction):
            text.append(
                f"{tell_prepared(tree.root)} is no session; commit it, or roll it back by its name: "
                f"-e gid={tree.root.gid}"
            )
    return text


def _some(title: str, found: Sequence[str]) -> list[str]:
    if not found:
        return []
    more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [title, *(f"  {item}" for item in found[:SHOWN]), *more]


def decided_lines(decision: Decision) -> list[str]:
    """Who is to be ended, who is left alone and why, who is only shown."""
    text = _some(f"to be ended ({len(decision.chosen)}):", [item.tell() for item in decision.chosen])
    text += _some("left alone:", [f"{tell(b)}: {why}" for b, why in decision.spared])
    text += _some("shown, not ended:", [f"{tell(b)}: {shape(b.query)}" for b in decision.listed])
    return text


def outcome_lines(outcomes: Sequence[Outcome], before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """What became of each, and whether the symptom went."""
    text = _some("ended:", [item.tell() for item in outcomes])
    text.append(
        f"blocked sessions {before['blocked']} -> {after['blocked']}, "
        f"free slots {before['free_slots']} -> {after['free_slots']}"
    )
    return text
