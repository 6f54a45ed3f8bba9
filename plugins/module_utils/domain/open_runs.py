# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that the journal knows to have begun something and never to have ended it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

INTERRUPTED = "interrupted"  # code of the note that says it once


@dataclass(frozen=True)
class Interrupted:
    """An intent without its outcome. process: the run's process on its controller, {} when nobody wrote it down."""

    run: str
    host: str
    verb: str
    at: str
    operator: str
    process: Mapping[str, Json] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return f"{self.verb} on {self.host} by {self.operator or '?'} (run {self.run}) was interrupted: begun {self.at}"


def without_end(bodies: Iterable[Mapping[str, Json]]) -> list[Interrupted]:
    """Every intent that no outcome, refusal or note of ours follows, in order of run, host and action.

    An outcome ends the newest intent of its run, host and action: an older one was left behind.
    """
    waiting: dict[tuple[str, str, str], list[Interrupted]] = {}
    for body in bodies:
        run, host, action = (str(body.get(name) or "") for name in ("run", "host", "action"))
        kind = body.get("kind")
        if kind == "intent":
            process = body.get("process")
            begun = Interrupted(
                run,
                host,
                str(body.get("verb") or ""),
                str(body.get("at") or ""),
                str(body.get("operator") or ""),
                dict(process) if isinstance(process, Mapping) else {},
            )
            waiting.setdefault((run, host, action), []).append(begun)
        elif kind in ("outcome", "refusal"):
            waiting.get((run, host, action), [])[-1:] = []
        elif kind == "note" and body.get("code") == INTERRUPTED:
            for found in [one for one in waiting if one[0] == str(body.get("of"))]:
                del waiting[found]
    return [one for begun in waiting.values() for one in begun]
