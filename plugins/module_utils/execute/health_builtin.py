# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that come with the collection: each a Check and the function that measures it.

health_check measures them one after the other over one session (read only, with statement_timeout and lock_timeout).
What a function raises as OpsError makes its own check inconclusive and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session


@dataclass(frozen=True)
class Scene:
    """What a function measures with.

    session: on the database of the system, inside a read-only transaction that is rolled back after the function
    target:  for sessions on other databases of the server (the function closes them)
    database: the name of the system's database
    options: the module's parameters (system, store, rpo, tenant_schemas, replicas, builtin ...), as they came
    now:     POSIX seconds, taken once
    cache:   for what several functions ask for
    """

    session: Session
    target: Target
    database: str
    options: Mapping[str, object]
    now: float
    cache: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Builtin:
    """One item: the check with its default thresholds (the inventory replaces them by name), how it is measured."""

    check: Check
    measure: Callable[[Scene], Sequence[Measurement]]


# Named by Check.name; the order is that of the table among equals.
BUILTINS: tuple[Builtin, ...] = ()
