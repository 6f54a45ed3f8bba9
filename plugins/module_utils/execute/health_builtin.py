# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that come with the collection: each a Check and the function that measures it.

health_check measures them one after the other over one session (read only, with statement_timeout and lock_timeout).
What a function raises as OpsError makes its own check inconclusive and no other. The first one that is asked reads
for all of them (execute/pg_survey.py), so that the whole set takes a handful of round trips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Expected, PgCheck, Survey, Timeout
from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import read_policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import RecoveryPoint
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import Policy
from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_info import sound
from ansible_collections.saasops.runbook.plugins.module_utils.execute.pg_survey import Limits, read_survey
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import take_stock
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

_SURVEY = "pg_survey"


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


# What an inventory says of a server that no default fits; health_check takes it as the option expect.
EXPECT_SPEC: dict[str, dict[str, object]] = {
    "expect": {
        "type": "dict",
        "default": {},
        "options": {
            "databases": {"type": "list", "elements": "str", "default": []},
            "rpo": {"type": "str"},
            "replicas": {"type": "int"},
            "settings": {"type": "dict", "default": {}},
            "timeouts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "setting": {"type": "str", "default": "statement_timeout"},
                    "at_most": {"type": "str", "required": True},
                    "role": {"type": "str"},
                    "database": {"type": "str"},
                },
            },
            "least_bytes": {"type": "int"},
            "least_dead": {"type": "int"},
            "least_calls": {"type": "int"},
        },
    },
}


def survey_of(scene: Scene) -> Survey:
    """What the server was found to be, read once a scene."""
    known = scene.cache.get(_SURVEY)
    if not isinstance(known, Survey):
        known = read_survey(
            scene.session,
            PG_CHECKS,
            limits(scene.options),
            expected(scene.options),
            target=scene.target,
            others=[str(name) for name in cast("Sequence[object]", _expect(scene.options).get("databases") or ())],
            points=_points(scene),
        )
        scene.cache[_SURVEY] = known
    return known


def _expect(options: Mapping[str, object]) -> Mapping[str, object]:
    """The option expect, without what is not given."""
    given = cast("Mapping[str, object]", options.get("expect") or {})
    return {name: value for name, value in given.items() if value is not None}


def limits(options: Mapping[str, object]) -> Limits:
    """What is too small to be looked at."""
    own = {name: int(str(value)) for name, value in _expect(options).items() if name.startswith("least_")}
    return Limits(**own)


def expected(options: Mapping[str, object]) -> Expected:
    """What the option expect asks for. Raises OpsError bad_duration."""
    own = _expect(options)
    timeouts = cast("Sequence[Mapping[str, object]]", own.get("timeouts") or ())
    replicas = own.get("replicas")
    return Expected(
        rpo=_rpo(options),
        replicas=None if replicas is None else int(str(replicas)),
        timeouts=tuple(
            Timeout(
                str(item.get("setting") or "statement_timeout"),
                float(parse_duration(str(item["at_most"]), "expect.timeouts.at_most")),
                str(item.get("role") or ""),
                str(item.get("database") or ""),
            )
            for item in timeouts
        ),
        values={
            str(name): str(value) for name, value in cast("Mapping[str, object]", own.get("settings") or {}).items()
        },
    )


def _rpo(options: Mapping[str, object]) -> int | None:
    """Seconds, None when none is given. Raises OpsError bad_duration."""
    given = _expect(options).get("rpo")
    return None if given in (None, "") else parse_duration(str(given), "expect.rpo")


def _points(scene: Scene) -> Sequence[RecoveryPoint] | OpsError | None:
    """Recovery points of the store, when one is given."""
    store = cast("dict[str, object] | None", scene.options.get("store"))
    if not store:
        return None
    system, rpo = str(scene.options.get("system") or ""), _rpo(scene.options)
    try:
        retention = cast("Mapping[str, object] | None", scene.options.get("retention"))
        policy = read_policy(retention) if retention else Policy()
        place = open_store(store)
        stock = take_stock(place, system)
        return sound(place, system, stock, policy, scene.now, rpo, scene.database)[1]
    except OpsError as error:
        return error


def _measured(item: PgCheck) -> Callable[[Scene], Sequence[Measurement]]:
    return lambda scene: item.measure(survey_of(scene))


# Named by Check.name; the order is that of the table among equals.
BUILTINS: tuple[Builtin, ...] = tuple(Builtin(item.check, _measured(item)) for item in PG_CHECKS)
