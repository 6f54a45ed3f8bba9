# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sessions an operator wants ended: policies as the inventory says them, and what each matches."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

ACTIVE, IDLE, IDLE_IN_TRANSACTION = "active", "idle", "idle in transaction"
ABORTED = "idle in transaction (aborted)"
STATES = (ACTIVE, IDLE, IDLE_IN_TRANSACTION)
MOST = 10  # sessions that one run of a policy ends unless it says otherwise
# what each state is called by the server
_SERVER_STATES: Mapping[str, tuple[str, ...]] = {
    ACTIVE: (ACTIVE, "fastpath function call"),
    IDLE: (IDLE,),
    IDLE_IN_TRANSACTION: (IDLE_IN_TRANSACTION, ABORTED),
}
_AGES = ("query_over", "transaction_over", "idle_over")
_LISTS = ("state", "application", "user", "database", "relation")
KEYS = ("name", *_LISTS, *_AGES, "list_over", "blocking", "limit")


@dataclass(frozen=True)
class Policy:
    """A session matches when all that is given holds; ages are in seconds and must be exceeded.

    states: those of STATES, () any. query_over: it runs a statement for longer. transaction_over: it is in a
    transaction for longer. idle_over: it waits for its client for longer, in a transaction or not.
    applications, users, databases: shell-like patterns, () any. blocking: others wait for it and it for nobody;
    relations: patterns of schema.table that those others want. limit: the most sessions that one run ends.
    list_over: the age from which a session is shown although it is not ended yet, None: from the ages above.
    name: "" for one that the operator says by its age (see forgotten).
    """

    name: str
    states: tuple[str, ...] = ()
    query_over: float | None = None
    transaction_over: float | None = None
    idle_over: float | None = None
    list_over: float | None = None
    applications: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    blocking: bool = False
    limit: int = MOST

    @property
    def ages(self) -> tuple[float | None, float | None, float | None]:
        """query_over, transaction_over, idle_over."""
        return self.query_over, self.transaction_over, self.idle_over

    @property
    def agreed(self) -> str:
        """What an approval of it names: who agreed to five minutes did not agree to ten seconds."""
        return f"policy {self.name}" if self.name else f"idle in transaction for more than {self.idle_over:g} s"


def forgotten(idle_over: float, limit: int = MOST) -> Policy:
    """Who is idle in a transaction for longer than so many seconds, whatever policies there are."""
    return Policy("", (IDLE_IN_TRANSACTION,), idle_over=idle_over, limit=limit)


BUILT_IN = (
    Policy("blockers", transaction_over=30.0, blocking=True),
    Policy("idle_in_transaction", (IDLE_IN_TRANSACTION,), idle_over=300.0),
    Policy("idle", (IDLE_IN_TRANSACTION, IDLE), idle_over=3600.0),
    Policy("long_queries", (ACTIVE,), query_over=900.0, list_over=300.0),
)


def _bad(name: str, cause: str, remedy: str) -> OpsError:
    return OpsError("bad_policy", f"saasops_session_policies, {name or 'without a name'}: {cause}", remedy)


def _texts(name: str, key: str, value: object) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if found is None:
        return ()
    if not isinstance(found, (list, tuple)) or not all(isinstance(item, str) and item for item in found):
        raise _bad(name, f"{key} is {value!r}.", "Give a name or a list of names.")
    return tuple(cast("Sequence[str]", found))


def parse_policy(given: Mapping[str, object]) -> Policy:
    """One policy of the inventory. Raises OpsError bad_policy, bad_duration."""
    name = str(given.get("name") or "")
    unknown = sorted(set(given) - set(KEYS))
    if not name or "," in name:
        raise _bad(name, "a policy needs a name, without a comma.", "Give each policy a name.")
    if unknown:
        raise _bad(name, f"{', '.join(unknown)} is not known.", f"Take {', '.join(KEYS)}.")
    ages = {key: float(parse_duration(str(given[key]), f"{name}.{key}")) for key in _AGES if given.get(key) is not None}
    listed = given.get("list_over")
    lists = {key: _texts(name, key, given.get(key)) for key in _LISTS}
    wrong = [state for state in lists["state"] if state not in STATES]
    if wrong:
        raise _bad(name, f"{wrong[0]!r} is no state.", f"Take {', '.join(STATES)}.")
    limit = str(given.get("limit", MOST))
    if not limit.isdigit() or int(limit) < 1:
        raise _bad(name, f"limit is {limit!r}.", "Give a number of sessions, at least 1.")
    blocking = given.get("blocking", False)
    if not isinstance(blocking, bool):
        raise _bad(name, f"blocking is {blocking!r}.", "Give true or false.")
    if not ages and not blocking:
        raise _bad(
            name,
            "nothing in it tells a session that does harm from one that does its work.",
            f"Give an age ({', '.join(_AGES)}), or blocking: true.",
        )
    if lists["relation"] and not blocking:
        raise _bad(name, "relation speaks of what others wait for.", "Give blocking: true with it.")
    return Policy(
        name,
        lists["state"],
        ages.get("query_over"),
        ages.get("transaction_over"),
        ages.get("idle_over"),
        None if listed is None else float(parse_duration(str(listed), f"{name}.list_over")),
        lists["application"],
        lists["user"],
        lists["database"],
        lists["relation"],
        blocking,
        int(limit),
    )


def parse_policies(given: Sequence[Mapping[str, object]]) -> dict[str, Policy]:
    """The inventory's policies by name, and the built-in ones that it does not name itself.

    Raises OpsError bad_policy, bad_duration.
    """
    own = [parse_policy(item) for item in given]
    names = [policy.name for policy in own]
    for name in names:
        if names.count(name) > 1:
            raise _bad(name, "there are two of this name.", "Give each its own.")
    return {policy.name: policy for policy in [*own, *(item for item in BUILT_IN if item.name not in names)]}


def like(patterns: Sequence[str], value: str) -> bool:
    """Whether a value is meant by shell-like patterns, exactly as it is written; no pattern means every value."""
    return not patterns or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)


def in_scope(policy: Policy, backend: Backend) -> bool:
    """Whether a session is one that the policy could speak of, its state and ages left aside."""
    return (
        like(policy.applications, backend.application)
        and like(policy.users, backend.user)
        and like(policy.databases, backend.database)
    )


def _measured(backend: Backend) -> tuple[float | None, float | None, float | None]:
    """Its ages in the order of Policy.ages; None where it has none in this state."""
    running = backend.state in _SERVER_STATES[ACTIVE]
    waiting = backend.state in (*_SERVER_STATES[IDLE], *_SERVER_STATES[IDLE_IN_TRANSACTION])
    return (
        backend.query_age if running else None,
        backend.transaction_age,
        backend.state_age if waiting else None,
    )


def _over(limits: Sequence[float | None], ages: Sequence[float | None]) -> bool:
    return all(limit is None or (age is not None and age > limit) for limit, age in zip(limits, ages))


def matches(policy: Policy, backend: Backend) -> bool:
    """Whether the policy means this session now; whether it blocks is not looked at."""
    states = tuple(name for state in policy.states for name in _SERVER_STATES[state])
    if not in_scope(policy, backend) or (states and backend.state not in states):
        return False
    return _over(policy.ages, _measured(backend))


def noticed(policy: Policy, backend: Backend) -> bool:
    """Whether the policy shows this session although it does not mean it yet."""
    if policy.list_over is None:
        return False
    least = [None if age is None else min(age, policy.list_over) for age in policy.ages]
    states = tuple(name for state in policy.states for name in _SERVER_STATES[state])
    return (
        in_scope(policy, backend)
        and (not states or backend.state in states)
        and _over(least, _measured(backend))
        and not matches(policy, backend)
    )


def why(policy: Policy, backend: Backend) -> str:
    """What a session that a policy means does, with the age that counts."""
    query, transaction, idle = _measured(backend)
    if policy.query_over is not None and query is not None:
        return f"runs one statement for {human_duration(query)}, more than {human_duration(policy.query_over)}"
    if policy.idle_over is not None and idle is not None:
        return f"{backend.state} for {human_duration(idle)}, more than {human_duration(policy.idle_over)}"
    if policy.transaction_over is not None and transaction is not None:
        return (
            f"in a transaction for {human_duration(transaction)}, more than {human_duration(policy.transaction_over)}"
        )
    return f"{backend.state} and in the way"
