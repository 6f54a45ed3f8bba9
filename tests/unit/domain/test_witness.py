# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal keeps of a task that only the callback saw."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.witness import Task, facts

SECRET = "hunter2hunter2"
T0 = 1795377600.0
COPY = Task("ansible.builtin.copy", "Copy the file", "db1", "", False, False, T0, T0 + 2)


def test_a_changed_task_is_kept_with_its_times() -> None:
    assert facts(COPY, {"changed": True}) == {
        "action": "ansible.builtin.copy",
        "task": "Copy the file",
        "changed": True,
        "failed": False,
        "started": "2026-11-22T20:00:00.000000Z",
        "ended": "2026-11-22T20:00:02.000000Z",
    }


@pytest.mark.parametrize(
    ("task", "result"),
    [
        (COPY, {"changed": False}),
        (COPY, {}),
        (replace(COPY, check_mode=True), {"changed": True}),
        (replace(COPY, action="saasops.runbook.pg_backup"), {"changed": True}),
        (replace(COPY, action="saasops.runbook.pg_backup"), {"failed": True}),
    ],
)
def test_what_is_none_of_its_business_is_not_kept(task: Task, result: dict[str, object]) -> None:
    assert facts(task, result) == {}


def test_a_failure_keeps_its_message_and_whether_it_was_ignored() -> None:
    found = facts(COPY, {"failed": True, "msg": "no such file"}, ignored=True)
    assert (found["failed"], found["ignored"], found["msg"]) == (True, True, "no such file")


def test_a_censored_failure_is_known_from_the_callback() -> None:
    found = facts(COPY, {"changed": False, "censored": "the output has been hidden"}, failed=True)
    assert (found["failed"], found["changed"], found["no_log"]) == (True, False, True)


def test_an_unreachable_host_is_a_failure() -> None:
    found = facts(COPY, {"unreachable": True, "msg": "no route"}, unreachable=True)
    assert (found["failed"], found["unreachable"]) == (True, True)


def test_items_are_counted() -> None:
    items = [{"changed": True, "item": 1}, {"changed": False}, {"failed": True, "changed": False}]
    found = facts(COPY, {"changed": True, "failed": True, "results": items})
    assert found["items"] == {"all": 3, "changed": 1, "failed": 1}


@pytest.mark.parametrize(
    ("task", "result"),
    [
        (replace(COPY, no_log=True), {"changed": True}),
        (COPY, {"changed": True, "censored": "the output has been hidden"}),
        (COPY, {"changed": True, "_ansible_no_log": True}),
    ],
)
def test_of_a_task_with_no_log_neither_name_nor_message_nor_diff_is_kept(task: Task, result: dict[str, object]) -> None:
    loud = {**result, "failed": True, "msg": SECRET, "diff": {"before": "", "after": SECRET}}
    found = facts(replace(task, name=f"Set {SECRET}"), loud)
    assert found["no_log"] is True
    assert SECRET not in json.dumps(found)
    assert not {"task", "msg", "diff"} & set(found)


def test_an_item_with_no_log_shows_no_diff() -> None:
    items = [{"changed": True, "_ansible_no_log": True, "diff": {"before": "", "after": "quiet\n"}}]
    assert "diff" not in facts(COPY, {"changed": True, "results": items})


def test_a_diff_is_kept_short_and_counted() -> None:
    before = "".join(f"line {n}\n" for n in range(100))
    diff = {"before_header": "/etc/x", "after_header": "/etc/x", "before": before, "after": "line 0\nnew\n"}
    found = facts(COPY, {"changed": True, "diff": [diff]})["diff"]
    assert isinstance(found, list)
    assert isinstance(found[0], dict)
    assert (found[0]["of"], found[0]["added"], found[0]["removed"]) == ("/etc/x", 1, 99)
    assert isinstance(found[0]["lines"], list)
    assert len(found[0]["lines"]) == 12


def test_a_prepared_diff_and_a_diff_of_mappings_are_kept() -> None:
    diffs = [{"prepared": "--- a\n+++ b\n@@\n-old\n+new\n"}, {"before": {"mode": "0600"}, "after": {"mode": "0644"}}]
    found = facts(COPY, {"changed": True, "diff": diffs})["diff"]
    assert found == [
        {"added": 1, "removed": 1, "lines": ["-old", "+new"]},
        {"added": 1, "removed": 1, "lines": ['-{"mode":"0600"}', '+{"mode":"0644"}']},
    ]


@pytest.mark.parametrize(
    "result",
    [
        {"diff": {"before": "", "after": f"user=u\npassword = {SECRET}\n"}},
        {"diff": {"before": "", "after": f"a\n{SECRET}\n", "after_header": "/srv/app/.env"}},
        {"diff": {"before": "", "after": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"}},
        {"diff": {"before": "", "after": f"$ANSIBLE_VAULT;1.1;AES256\n{SECRET}\n"}},
        {"diff": {"before": "", "after": f"{SECRET}\n"}, "invocation": {"module_args": {"login_password": SECRET}}},
        {"results": [{"diff": {"after": SECRET}, "item": {"name": "a", "password": SECRET}}]},
        {"diff": {"before": {"a": 1}, "after": {"a": 1, "db_password": SECRET}}},
        {"diff": {"prepared": f"+token: {SECRET}\n"}},
        {"failed": True, "msg": f"cannot log in with {SECRET}", "invocation": {"module_args": {"api_key": SECRET}}},
        {"failed": True, "msg": f"could not open postgres://shop:{SECRET}@db/shop"},
    ],
)
def test_secrets_of_parameters_and_diffs_are_not_kept(result: dict[str, object]) -> None:
    found = facts(COPY, {"changed": True, **result})
    assert SECRET not in json.dumps(found)


def test_a_huge_diff_is_only_measured() -> None:
    found = facts(COPY, {"changed": True, "diff": {"before": "", "after": "x\n" * 50_000}})["diff"]
    assert found == [{"of": "", "bytes": [0, 100_000]}]
