# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back from what one run did on one host, out of its records in the journal; or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_runs import without_end

# verbs that have a way back write it into their outcome; what to do instead for those that have none
INSTEAD: Mapping[str, tuple[str, str]] = {
    "backup": (
        "It added a set and changed nothing that was there.",
        "Leave the set to the retention (verb prune); a pin keeps it.",
    ),
    "copy": ("It copied sets to another place and changed none.", "Leave the copies to the retention (verb prune)."),
    "prune": (
        "Sets that were deleted do not come back.",
        "Look whether a second copy still holds them (verb backups -e copy=1).",
    ),
    "pin": ("It changed a mark of a set.", "Say pin -e set=<id> -e state=absent, or pin it again as it was."),
    "restore": (
        "It restored beside the live database, which was not touched.",
        "Drop the copy with restore_finish -e restore=<id>.",
    ),
    "restore_finish": (
        "The database that stood aside is dropped.",
        "Restore a set of that time: restore -e set=<id> -e switch=true.",
    ),
    "restore_tenant": (
        "It changed no row, or created a schema that was missing.",
        "Restore the tenant from another set.",
    ),
    "restore_drill": ("A drill changes no live data and drops what it made.", "Nothing has to be done."),
    "undo": ("It was a way back itself.", "Switch again: restore -e set=<id> -e switch=true."),
    "hold": ("It let clients in again.", "Keep them out with hold -e reason='<why>'."),
    "reconcile": ("It put back what dead runs had left.", "Run the verb that was interrupted again."),
    "silence": ("It made or ended a silence.", "End it, or silence again: module alertmanager_silence."),
    "expiry": ("It made or removed a timer.", "Undo the act that the timer was to end."),
    "maintenance": ("It removed dead rows, and rebuilt what holds the live ones.", "Nothing has to be undone."),
    "sessions": ("Sessions that were ended do not come back.", "Their clients connect again by themselves."),
    "integrity": ("It recorded a suspicion, or released it.", "Say integrity -e state=released -e reason='<why>'."),
    "cleanup": ("It deleted no row.", "Nothing has to be undone."),
    "repair": ("It changed no row.", "Nothing has to be undone."),
    "index": ("It left the indexes as they were.", "Name the index as it is to be: index -e name=<schema.index>."),
    "migrate": (
        "It applied files that have no undo script.",
        "Write one, or restore a set of before: restore -e set=<id> -e switch=true.",
    ),
}


def way_back(bodies: Sequence[Mapping[str, Json]], run: str, host: str) -> dict[str, Json]:
    """The undo that the run wrote for this host: a verb and its variables.

    Raises OpsError run_unknown, run_interrupted, undo_ambiguous, no_way_back.
    """
    own = [body for body in bodies if body.get("run") == run]
    if not own:
        raise OpsError(
            "run_unknown",
            f"The journal knows no run {run!r}.",
            "See journal_verify -e last=50 for the runs of this system.",
        )
    here = [body for body in own if body.get("host") == host]
    broken = [one for one in without_end(here) if one.run == run]
    if broken:
        raise OpsError(
            "run_interrupted",
            f"{broken[0].sentence}, so what it did is not known.",
            "Say reconcile, which brings it to a state that has a name; then undo without run, if a switch was done.",
        )
    found = [dict(undo) for body in here if isinstance(undo := body.get("undo"), Mapping) and undo.get("verb")]
    if len(found) == 1:
        return found[0]
    if found:
        acts = "; ".join(
            f"{one['verb']} " + " ".join(f"-e {k}={v}" for k, v in one.items() if k != "verb") for one in found
        )
        raise OpsError(
            "undo_ambiguous", f"Run {run} did {len(found)} things on {host} that can be undone.", f"Undo each: {acts}."
        )
    verbs = [str(body["verb"]) for body in here if body.get("kind") in ("outcome", "refusal") and body.get("verb")]
    if not verbs:
        hosts = ", ".join(sorted({str(body["host"]) for body in own if body.get("host")}))
        raise OpsError(
            "no_way_back", f"Run {run} did nothing on {host}; it was on {hosts}.", "Limit undo to those hosts."
        )
    if not any(body.get("changed") is True for body in here):
        raise OpsError(
            "no_way_back", f"Run {run} ({verbs[-1]}) changed nothing on {host}.", "Nothing has to be undone."
        )
    why, instead = INSTEAD.get(verbs[-1], ("It wrote no way back.", "See its records in the journal."))
    raise OpsError("no_way_back", f"Run {run} was {verbs[-1]}, which has no way back. {why}", instead)
