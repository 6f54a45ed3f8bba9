# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a run may act: window, approval, blast radius, failed hosts. All reasons against it are given at once.

Nothing here looks anywhere: what is known comes in, refusals and bypasses go out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import (
    Envelope,
    envelope_of,
    outside,
    parse_envelope,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import CLASSES, VERBS, Verb

# what a run may touch at most; ceilings of plans carry the same names
RADII = ("hosts", "databases", "schemas", "sets", "rows", "sessions", "replicas", "indexes", "tables", "bytes")
# of what break glass goes past; a verb's own refusals about losing data are none of these
BYPASSABLE = ("window_closed", "frozen", "approval_required", "approval_expired", "outside_envelope")


@dataclass(frozen=True)
class Policy:
    """What a system asks for.

    approval: verbs and classes that need one. limits: the most by name of RADII, for a verb or ("") for all.
    max_failed: hosts of the system that may have failed or be unreachable. journal: required or best_effort.
    """

    approval: frozenset[str] = frozenset()
    own_approval: bool = False
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    max_failed: int = 0
    journal: str = "best_effort"
    lease_ttl: float = 900.0


@dataclass(frozen=True)
class Approval:
    """Somebody agreed to an envelope until a moment (POSIX seconds)."""

    id: str
    plan: str
    envelope: Envelope
    by: str
    until: float


@dataclass(frozen=True)
class Request:
    """Who wants to do what, as admission on the controller knows it.

    hosts: all hosts of the system in this run; failed: those that failed or could not be reached so far.
    window: what the calendar says (code, cause, remedy), None when work may run now; deadline: when it must end.
    open: names of the windows that are open now, none where the inventory defines none. break_glass: the reason, ""
    without.
    """

    run: str
    verb: Verb
    operator: str
    hosts: tuple[str, ...]
    failed: tuple[str, ...] = ()
    window: OpsError | None = None
    deadline: float | None = None
    break_glass: str = ""
    open: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """refusals: reasons not to act, [] when it may; bypassed: those that break glass went past."""

    refusals: tuple[OpsError, ...] = ()
    bypassed: tuple[OpsError, ...] = ()
    approval: str = ""


def _bad(name: str, value: object, wanted: str) -> OpsError:
    return OpsError("guard_misconfigured", f"{name} is {value!r}.", f"Give {wanted}.", {"variable": name})


def parse_policy(values: Mapping[str, object]) -> Policy:
    """From the inventory's saasops_approval, saasops_limits, saasops_max_failed, saasops_journal, saasops_lease_ttl.

    Raises OpsError guard_misconfigured: a rule that is not understood must not count as no rule.
    """
    asked = values.get("saasops_approval") or {}
    if not isinstance(asked, Mapping) or not set(asked) <= {"classes", "verbs", "own"}:
        raise _bad("saasops_approval", asked, "a dictionary of classes, verbs and own")
    names = [str(item) for key in ("classes", "verbs") for item in cast("Sequence[object]", asked.get(key) or [])]
    for name in names:
        if name not in VERBS and name not in CLASSES:
            raise _bad("saasops_approval", name, f"classes ({', '.join(CLASSES)}) or verbs ({', '.join(VERBS)})")
    journal = str(values.get("saasops_journal") or "best_effort")
    if journal not in ("best_effort", "required"):
        raise _bad("saasops_journal", journal, "best_effort or required")
    failed = str(values.get("saasops_max_failed") or 0)
    if not failed.isdigit():
        raise _bad("saasops_max_failed", failed, "a number of hosts")
    ttl = values.get("saasops_lease_ttl")
    seconds = parse_duration(str(ttl), "saasops_lease_ttl") if ttl else Policy.lease_ttl
    return Policy(
        approval=frozenset(names),
        own_approval=bool(asked.get("own")),
        limits=_limits(values.get("saasops_limits") or {}),
        max_failed=int(failed),
        journal=journal,
        lease_ttl=float(seconds),
    )


def _limits(given: object) -> Mapping[str, Mapping[str, int]]:
    """saasops_limits: {rows: 1000, prune: {sets: 5}} as {"": {"rows": 1000}, "prune": {"sets": 5}}."""
    if not isinstance(given, Mapping):
        raise _bad("saasops_limits", given, "a dictionary")
    found: dict[str, dict[str, int]] = {}
    for name, value in given.items():
        verb, inner = (str(name), value) if isinstance(value, Mapping) else ("", {name: value})
        if verb and verb not in VERBS:
            raise _bad("saasops_limits", verb, f"verbs ({', '.join(VERBS)}) or {', '.join(RADII)}")
        for radius, most in inner.items():
            if radius not in RADII or not str(most).isdigit():
                raise _bad("saasops_limits", {radius: most}, f"whole numbers for {', '.join(RADII)}")
            found.setdefault(verb, {})[str(radius)] = int(str(most))
    return found


def needs_approval(policy: Policy, verb: Verb) -> bool:
    """Whether the system asks for an approval of this verb."""
    return verb.name in policy.approval or verb.verb_class in policy.approval


def blast_radius(policy: Policy, request: Request, ceilings: Mapping[str, int]) -> list[OpsError]:
    """What the run touches against what the system allows; each refusal shows the count."""
    touched = {"hosts": len(request.hosts), **{k: v for k, v in ceilings.items() if k in RADII}}
    limits = {**policy.limits.get("", {}), **policy.limits.get(request.verb.name, {})}
    return [
        OpsError(
            "blast_radius",
            f"{request.verb.name} would touch {touched[name]:,} {name}; the system allows {most:,}.",
            f"Narrow the run (--limit, fewer objects), or raise saasops_limits for {name}.",
            {"touches": name, "count": touched[name], "limit": most},
        )
        for name, most in sorted(limits.items())
        if touched.get(name, 0) > most
    ]


def failed_hosts(policy: Policy, request: Request) -> OpsError | None:
    """Too many hosts of the system failed or are unreachable: a batch more would make it worse."""
    if len(request.failed) <= policy.max_failed:
        return None
    return OpsError(
        "hosts_failed",
        f"{len(request.failed)} of {len(request.hosts)} hosts of the system failed or are unreachable: "
        f"{', '.join(request.failed)}; {policy.max_failed} may.",
        "Mend them, leave them out with --limit, or raise saasops_max_failed.",
        {"failed": list(request.failed)},
    )


def approved(
    policy: Policy, request: Request, plan: Plan, approvals: Sequence[Approval], now: float
) -> tuple[OpsError | None, str]:
    """(why the plan is not approved, or the id of the approval that covers it)."""
    wanted = envelope_of(plan)
    related = [item for item in approvals if item.envelope.verb == wanted.verb]
    others = [item for item in related if policy.own_approval or item.by != request.operator]
    living = [item for item in others if item.until > now]
    differences = {item.id: outside(wanted, item.envelope) for item in living}
    for item in living:
        if not differences[item.id]:
            return None, item.id
    details: dict[str, object] = {"envelope": wanted.as_json(), "digest": wanted.digest()}
    if living:
        nearest = min(living, key=lambda item: len(differences[item.id]))
        return OpsError(
            "outside_envelope",
            f"Plan {nearest.plan}, approved by {nearest.by}, does not hold what this run would do: "
            + "; ".join(differences[nearest.id][:10])
            + ".",
            "Have the new plan approved.",
            {**details, "difference": differences[nearest.id]},
        ), ""
    fitting = [item for item in others if not outside(wanted, item.envelope)]
    if fitting:
        last = max(fitting, key=lambda item: item.until)
        return OpsError(
            "approval_expired",
            f"The approval of plan {last.plan} by {last.by} ended at {iso(last.until)}.",
            "Have it approved again.",
            details,
        ), ""
    said = "Only you approved it yourself." if related and not others else "Nobody has approved it."
    return OpsError(
        "approval_required",
        f"{request.verb.name} needs an approval on this system. {said}",
        "Have it approved.",
        details,
    ), ""


def decide(policy: Policy, request: Request, plan: Plan, approvals: Sequence[Approval], now: float) -> Verdict:
    """Everything that speaks against the plan now. Break glass goes past BYPASSABLE, and past nothing else."""
    against: list[OpsError] = []
    if request.window is not None:
        against.append(request.window)
    hosts = failed_hosts(policy, request)
    if hosts is not None:
        against.append(hosts)
    against += blast_radius(policy, request, plan.ceilings)
    approval = ""
    if needs_approval(policy, request.verb) and not plan.empty:
        missing, approval = approved(policy, request, plan, approvals, now)
        if missing is not None:
            against.append(missing)
    past = [item for item in against if request.break_glass and item.code in BYPASSABLE]
    return Verdict(tuple(item for item in against if item not in past), tuple(past), approval)


def refusal(found: Sequence[OpsError]) -> OpsError:
    """One error that names all; the code is that of the first. Raises ValueError for none."""
    if not found:
        raise ValueError("nothing speaks against it")
    first = found[0]
    codes: dict[str, object] = {"codes": [item.code for item in found]}
    if len(found) == 1:
        return OpsError(first.code, first.cause, first.remedy, {**first.details, **codes})
    return OpsError(
        first.code,
        " ".join(f"({n}) [{item.code}] {item.cause} {item.remedy}" for n, item in enumerate(found, 1)),
        "Nothing was changed.",
        {**codes, **{item.code: item.details for item in found}},
    )


def parse_approval(key: str, body: Mapping[str, object]) -> Approval | None:
    """From an object of approvals/; None for one that cannot be read: it approves nothing."""
    try:
        return Approval(
            id=key,
            plan=str(body["plan"]),
            envelope=parse_envelope(body["envelope"]),
            by=str(body["by"]),
            until=float(str(body["until_posix"])),
        )
    except (KeyError, ValueError, OpsError):
        return None
