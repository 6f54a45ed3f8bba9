# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict of a drill: was it the same, how long did it take, how much would have been lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference, Json


@dataclass(frozen=True)
class Check:
    """One assertion of the system on the restored data: its name, and the value that its SQL gave (true passes)."""

    name: str
    value: Json

    @property
    def passed(self) -> bool:
        return self.value is True


@dataclass(frozen=True)
class ServerSeen:
    """A running server: its system identifier, port, the moment of its start as it tells it, server_version_num."""

    identifier: str
    port: int
    started: str
    version: int
    in_recovery: bool


def refuse_scratch(live: ServerSeen, scratch: ServerSeen) -> None:
    """Raise scratch_is_live, scratch_is_copy, server_is_standby: servers that a drill must not restore into."""
    if live.identifier == scratch.identifier and live.started == scratch.started:
        raise OpsError(
            "scratch_is_live",
            "The scratch server of the drill is the live server itself, reached with other parameters.",
            "Nothing was changed. Name another server in saasops_drill_connection, or leave it out to drill into a "
            "scratch database beside the live one.",
        )
    if scratch.in_recovery:
        whose = "a standby of the live one" if live.identifier == scratch.identifier else "a standby"
        raise OpsError(
            "server_is_standby",
            f"The scratch server of the drill is {whose}; nothing can be restored there.",
            "Nothing was changed. Name a server of its own in saasops_drill_connection.",
        )
    if live.identifier == scratch.identifier:
        raise OpsError(
            "scratch_is_copy",
            f"The scratch server of the drill is a physical copy of the live one (system identifier "
            f"{live.identifier}): records of restores could not be told apart.",
            "Nothing was changed. Name a server that was made by initdb in saasops_drill_connection.",
            {"system_identifier": live.identifier},
        )


@dataclass(frozen=True)
class Verdict:
    """outcome is passed or failed; times in seconds, None where nothing was there to measure."""

    outcome: str
    reasons: tuple[str, ...]
    rto: float
    rpo: float | None


def decide_drill(
    differences: Sequence[Difference],
    checks: Sequence[Check],
    started: float,
    healthy_at: float,
    live_marker: float | None,
    restored_marker: float | None,
    rto_target: float | None,
    rpo_target: float | None,
) -> Verdict:
    """Hold what was measured against what was promised. Markers are POSIX seconds of the last committed row."""
    rto = healthy_at - started
    rpo = None if live_marker is None or restored_marker is None else max(0.0, live_marker - restored_marker)
    reasons = [item.text for item in differences]
    reasons += [
        f"the assertion {item.name!r} gave {item.value!r} instead of true" for item in checks if not item.passed
    ]
    if live_marker is not None and restored_marker is None:
        reasons.append("the restored data has no marker row, the live database has")
    if rto_target is not None and rto > rto_target:
        reasons.append(f"it took {rto:.0f} s until the data was usable; the target is {rto_target:.0f} s")
    if rpo_target is not None and rpo is not None and rpo > rpo_target:
        reasons.append(f"{rpo:.0f} s of commits were missing; the target is {rpo_target:.0f} s")
    return Verdict("failed" if reasons else "passed", tuple(reasons), rto, rpo)
