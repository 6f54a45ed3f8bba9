# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal keeps of a task that no admission saw: short, and without what looks like a secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, canonical, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.redact import (
    clean_text,
    looks_secret,
    secret_values,
)

OWN = "saasops.runbook."  # our modules are journaled by admission
LONGEST_NAME = 200  # characters
LONGEST_MESSAGE = 300
DIFF_LINES = 12  # lines of one diff
DIFF_WIDTH = 120  # characters of one line
DIFFS = 3  # diffs of one task
DIFF_READ = 20_000  # characters of a side; a longer one is only counted
_SECRET_FILES = re.compile(
    r"(?i)(\.env\b|\.pem\b|\.key\b|\.p12\b|\.pgpass|id_(rsa|ed25519|ecdsa)|vault|shadow|htpasswd)"
)


@dataclass(frozen=True)
class Task:
    """A task as the callback knows it. Times are POSIX seconds; started is None when nobody saw the start."""

    action: str
    name: str
    host: str
    delegated_to: str
    no_log: bool
    check_mode: bool
    started: float | None
    ended: float


def facts(
    task: Task,
    result: Mapping[str, object],
    *,
    failed: bool = False,
    unreachable: bool = False,
    ignored: bool = False,
) -> dict[str, Json]:
    """The facts of a record, or {} for a task that is none of the journal's: ours, unchanged, or only tried.

    failed: the callback was told of a failure; a result that no_log has censored no longer says so.
    Of a task with no_log nothing but its action, its host, its times and what became of it is kept: not even the name.
    """
    failed = failed or unreachable or bool(result.get("failed"))
    changed = bool(result.get("changed")) and not task.check_mode
    if task.action.startswith(OWN) or not (failed or changed):
        return {}
    silent = task.no_log or "censored" in result or bool(result.get("_ansible_no_log"))
    found: dict[str, Json] = {
        "action": task.action[:LONGEST_NAME],
        "changed": changed,
        "failed": failed,
        "started": iso(task.started if task.started is not None else task.ended),
        "ended": iso(task.ended),
    }
    for name, given in (("unreachable", unreachable), ("ignored", ignored), ("check_mode", task.check_mode)):
        if given:
            found[name] = True
    if task.delegated_to and task.delegated_to != task.host:
        found["delegated_to"] = task.delegated_to[:LONGEST_NAME]
    items = result.get("results")
    if isinstance(items, (list, tuple)):
        found["items"] = _items(items)
    if silent:
        found["no_log"] = True
        return found
    known = secret_values(result.get("invocation"))
    if isinstance(items, (list, tuple)):
        for item in items[:50]:
            if isinstance(item, Mapping):
                known |= secret_values(item.get("invocation"))
                known |= secret_values(item.get("item"))
    found["task"] = clean_text(task.name, known, strict=True, limit=LONGEST_NAME)
    message = result.get("msg")
    if failed and isinstance(message, str) and message:
        found["msg"] = clean_text(message, known, strict=True, limit=LONGEST_MESSAGE)
    diff = _diffs(result, known)
    if diff:
        found["diff"] = diff
    return found


def _items(items: Sequence[object]) -> dict[str, Json]:
    several = [item for item in items if isinstance(item, Mapping)]
    return {
        "all": len(items),
        "changed": sum(bool(item.get("changed")) for item in several),
        "failed": sum(bool(item.get("failed")) for item in several),
    }


def _silent(item: Mapping[str, object]) -> bool:
    return "censored" in item or bool(item.get("_ansible_no_log"))


def _diffs(result: Mapping[str, object], known: set[str]) -> list[Json]:
    """The first few diffs of a task and of its items."""
    sources: list[Mapping[str, object]] = [result]
    items = result.get("results")
    if isinstance(items, (list, tuple)):
        sources += [item for item in items if isinstance(item, Mapping) and not _silent(item)]
    found: list[Json] = []
    for source in sources:
        diff = source.get("diff")
        for one in diff if isinstance(diff, (list, tuple)) else [diff]:
            if isinstance(one, Mapping) and len(found) < DIFFS:
                short = _diff(one, known)
                if short:
                    found.append(short)
    return found


def _diff(diff: Mapping[str, object], known: set[str]) -> dict[str, Json]:
    """What it is of, how many lines came and went, and the first of them without secrets."""
    of = str(diff.get("after_header") or diff.get("before_header") or "")
    if "prepared" in diff:
        marked = [line for line in str(diff["prepared"])[:DIFF_READ].splitlines() if line[:1] in "+-"]
        marked = [line for line in marked if not line.startswith(("+++", "---"))]
    else:
        before, after = _side(diff.get("before")), _side(diff.get("after"))
        if before == after:
            return {}
        if max(len(before), len(after)) > DIFF_READ:
            return {"of": clean_text(of, known, strict=True, limit=LONGEST_NAME), "bytes": [len(before), len(after)]}
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
        marked = [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    short: dict[str, Json] = {
        "added": sum(line.startswith("+") for line in marked),
        "removed": sum(line.startswith("-") for line in marked),
    }
    if of:
        short["of"] = clean_text(of, known, strict=True, limit=LONGEST_NAME)
    # what a file of secrets holds cannot be told apart line by line
    if not (looks_secret(of) or _SECRET_FILES.search(of) or _holds_key(marked)):
        # whole lines are cleaned before they are cut, so that no half of a secret stays
        short["lines"] = [clean_text(line, known, strict=True, limit=DIFF_WIDTH) for line in marked[:DIFF_LINES]]
    return short


def _holds_key(lines: Sequence[str]) -> bool:
    return any("-----BEGIN" in line or "$ANSIBLE_VAULT" in line for line in lines)


def _side(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (Mapping, list, tuple)):
        try:
            text = canonical(value).decode()
        except (TypeError, ValueError):
            return str(value)
        return text.replace(',"', ',\n"')
    return str(value)
