# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup says what it will do, or everything that stands against it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.backup import (
    Part,
    Previous,
    Situation,
    already_done,
    decide_backup,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

GB = 10**9
FINE = Situation(
    database="app",
    database_bytes=2 * GB,
    user_mappings=0,
    subscriptions=0,
    staging="/staging",
    staging_free=10 * GB,
    staging_on_pgdata=False,
    store_url="/backups",
    store_free=10 * GB,
    globals_readable=True,
)
WHOLE = Part("database", (), None, 12, GB)


@pytest.mark.parametrize(
    ("situation", "code"),
    [
        (replace(FINE, staging_on_pgdata=True), "staging_on_pgdata"),
        (replace(FINE, staging_free=GB), "disk_too_small"),
        (replace(FINE, store_free=GB // 4), "disk_too_small"),
        (replace(FINE, user_mappings=1), "dump_holds_secrets"),
    ],
    ids=["staging-on-pgdata", "staging-small", "store-small", "secrets"],
)
def test_each_reason_against_it_refuses_with_its_code(situation: Situation, code: str) -> None:
    with pytest.raises(OpsError) as caught:
        decide_backup(situation, [WHOLE], "counts", False)
    assert caught.value.code == code


def test_all_reasons_are_named_at_once() -> None:
    with pytest.raises(OpsError) as caught:
        decide_backup(replace(FINE, staging_on_pgdata=True, user_mappings=2), [WHOLE], "counts", False)
    assert caught.value.details["codes"] == ["staging_on_pgdata", "dump_holds_secrets"]


@pytest.mark.parametrize(
    "situation",
    [
        FINE,
        replace(FINE, staging_free=int(1.3 * GB)),
        replace(FINE, store_free=GB // 2),
        replace(FINE, store_free=None, staging_free=None, staging_on_pgdata=None),
        replace(FINE, staging="", staging_free=None, staging_on_pgdata=None),
    ],
    ids=["room", "staging-just-enough", "store-just-enough", "unknown", "stream"],
)
def test_just_enough_is_enough(situation: Situation) -> None:
    plan = decide_backup(situation, [WHOLE], "counts", False)
    assert [(a.kind, a.object) for a in plan.actions] == [("dump", "app (all schemas)")]


def test_secrets_can_be_accepted() -> None:
    assert not decide_backup(replace(FINE, user_mappings=1), [WHOLE], "counts", True).empty


def test_measured_numbers_do_not_change_the_envelope() -> None:
    one = decide_backup(FINE, [WHOLE], "counts", False)
    later = decide_backup(FINE, [replace(WHOLE, bytes=GB + 1, tables=13)], "counts", False)
    other = decide_backup(FINE, [WHOLE, Part("tenant", ("org_a",), "org_a", 1, 1)], "counts", False)
    assert one.envelope() == later.envelope() != other.envelope()


@pytest.mark.parametrize(
    ("key", "max_age", "done"),
    [
        ("nightly", None, "b"),
        ("weekly", None, None),
        ("", 50.0, None),
        ("", 100.0, "b"),
        ("", None, None),
    ],
    ids=["same-key", "other-key", "too-old", "young-enough", "no-condition"],
)
def test_a_second_run_is_needless_only_for_the_same_key_or_a_young_set(
    key: str, max_age: float | None, done: str | None
) -> None:
    assert already_done([Previous("a", 900, ""), Previous("b", 100, "nightly")], key, max_age) == done


def test_a_set_from_the_future_is_no_reason_to_skip() -> None:
    assert already_done([Previous("a", -600, "")], "", 3600) is None
