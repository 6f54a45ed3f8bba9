# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What admission tells a module: who asks, for which verb, under which rules of the system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.filter.resolve_store import resolve_store
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.inventory import parse_freezes, parse_windows
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.rules import judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import parse_policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.silence import parse_matchers
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import (
    BACKUP,
    RECONCILE,
    SILENCE,
    VERBS,
    Verb,
)
from ansible_collections.saasops.runbook.plugins.module_utils.silencing import SILENCE_SPEC

# the inventory's words that a module needs to decide; calendars are judged here, on the controller
POLICY = ("saasops_approval", "saasops_limits", "saasops_max_failed", "saasops_journal", "saasops_lease_ttl")


def group_of(system: str, task_vars: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """(hosts of the system in this play, those of them that failed or could not be reached)."""
    hostvars = cast("Mapping[str, Mapping[str, object]]", task_vars.get("hostvars") or {})

    def own(host: str) -> bool:
        return str(hostvars.get(host, {}).get("saasops_system") or host) == system

    listed = [str(name) for name in cast("Sequence[str]", task_vars.get("ansible_play_hosts_all") or [])]
    standing = {str(name) for name in cast("Sequence[str]", task_vars.get("ansible_play_hosts") or [])}
    hosts = [name for name in listed if own(name)]
    me = str(task_vars.get("inventory_hostname"))
    return hosts or [me], [name for name in hosts if name not in standing]


def standing_hosts(request: Mapping[str, object]) -> list[str]:
    """The hosts of the run's system that did not fail; the first decides for all."""
    failed = set(cast("Sequence[str]", request["failed"]))
    hosts = cast("Sequence[str]", request["hosts"])
    return [name for name in hosts if name not in failed] or [str(request["host"])]


def of_grant(grant: object, run: str, verb: Verb, host: str) -> dict[str, object]:
    """tokens, plan and envelope of a grant of this very run; a verb that it does not speak of is decided on its own."""
    if not isinstance(grant, Mapping) or grant.get("run") != run or grant.get("verb") != verb.name:
        return {}
    envelopes = cast("Mapping[str, object]", grant.get("envelopes") or {})
    # a host that had nothing to do in the plan may do nothing now
    nothing = {"verb": verb.name, "actions": [], "ceilings": {}}
    return {"tokens": grant.get("tokens"), "plan": grant.get("plan"), "envelope": envelopes.get(host, nothing)}


def mode_of(value: object) -> str:
    """saasops_guard: on, or none. Raises OpsError guard_misconfigured."""
    text = str(value if value is not None else "on").lower()
    if text in ("on", "true", "yes", "1"):
        return "on"
    if text == "none":
        return "none"
    raise OpsError(
        "guard_misconfigured", f"saasops_guard is {value!r}.", "Give on, or none to go without it; that is journaled."
    )


def calendar_of(
    verb: Verb, task_vars: Mapping[str, object], template: Callable[[object], object], now: float
) -> dict[str, object]:
    """What the system's calendar says: window, deadline, open.

    window: why work may not run now, or None. deadline: POSIX seconds, or None. open: names of the windows that are
    open now, none where the inventory defines none. Raises OpsError of an unreadable rule.
    """
    windows, freezes = (template(task_vars.get(name) or []) for name in ("saasops_windows", "saasops_freezes"))
    if not windows and not freezes:
        return {"window": None, "deadline": None, "open": []}
    zone = str(template(task_vars.get("saasops_timezone") or "UTC"))
    verdict = judge(
        parse_windows(windows, zone, tuple(VERBS)),
        parse_freezes(freezes, zone, tuple(VERBS)),
        verb.name,
        verb.verb_class,
        now,
    )
    if verdict.allowed:
        return {"window": None, "deadline": verdict.until, "open": list(verdict.windows)}
    return {
        "window": {
            "code": verdict.code,
            "cause": verdict.sentence,
            "remedy": verdict.remedy,
            "details": {"next_opening": verdict.next_opening},
        },
        "deadline": None,
        "open": [],
    }


def calendar_lines(task_vars: Mapping[str, object], template: Callable[[object], object], now: float) -> list[str]:
    """When routine work may run, for status. Raises OpsError of an unreadable rule."""
    found = calendar_of(BACKUP, task_vars, template, now)
    window, deadline = cast("Mapping[str, object] | None", found["window"]), found["deadline"]
    if window is not None:
        return [f"CALENDAR: {window['cause']}"]
    if deadline is not None:
        return [f"CALENDAR: routine work may run until {utc(float(str(deadline)))}."]
    return ["CALENDAR: routine work may run at any time."]


def plain_policy(task_vars: Mapping[str, object], template: Callable[[object], object]) -> dict[str, object]:
    """The policy's variables, templated and found readable. Raises OpsError guard_misconfigured."""
    values = {name: template(task_vars[name]) for name in POLICY if task_vars.get(name) is not None}
    parse_policy(values)
    return values


def silence_of(verb: Verb, request: Mapping[str, object], given: object) -> dict[str, object]:
    """The option guard_silence, {} for a verb that silences nothing. Raises guard_misconfigured, bad_matcher."""
    if not given or verb.name == SILENCE.name or request["mode"] == "none":
        return {}
    remedy = "Give url and matchers, and as needed after, longest, required, verbs and how to log in."
    if not isinstance(given, Mapping) or not given.get("url"):
        raise OpsError("guard_misconfigured", "saasops_silence is no dictionary with a url.", remedy)
    unknown = sorted(set(given) - set(SILENCE_SPEC))
    if unknown:
        raise OpsError("guard_misconfigured", f"saasops_silence has no {', '.join(unknown)}.", remedy)
    verbs = [str(name) for name in cast("Sequence[object]", given.get("verbs") or [])]
    strange = sorted(set(verbs) - set(VERBS))
    if strange:
        raise OpsError(
            "guard_misconfigured", f"saasops_silence.verbs names {', '.join(strange)}.", "Use names of verbs."
        )
    for name in ("after", "longest"):
        if given.get(name):
            parse_duration(str(given[name]), f"saasops_silence.{name}")
    parse_matchers(given.get("matchers"))
    # what an earlier run silenced is ended whatever verb it was
    if verbs and verb.name not in verbs and verb is not RECONCILE:
        return {}
    return {"guard_silence": dict(given)}


def anchor_of(task_vars: Mapping[str, object], template: Callable[[object], object]) -> dict[str, object]:
    """The option guard_anchor, {} without a second place for the journal's head. Raises guard_misconfigured."""
    given = template(task_vars.get("saasops_journal_anchor"))
    if not given:
        return {}
    options = {"path": given, "create": True} if isinstance(given, str) else given
    if not isinstance(options, Mapping):
        raise OpsError(
            "guard_misconfigured",
            "saasops_journal_anchor is neither a folder nor a dictionary.",
            "Give a folder of the host, or the options of a store.",
        )
    hostvars = cast("Mapping[str, Mapping[str, object]]", task_vars.get("hostvars") or {})
    return {"guard_anchor": resolve_store(options, hostvars, str(task_vars.get("inventory_hostname")))}


def as_request(
    verb: Verb,
    run: Mapping[str, object],
    host: str,
    hosts: Sequence[str],
    failed: Sequence[str],
    **more: object,
) -> dict[str, object]:
    """The option guard of our modules."""
    return {
        **run,
        "verb": verb.name,
        "host": host,
        "hosts": list(hosts),
        "failed": list(failed),
        **more,
    }
