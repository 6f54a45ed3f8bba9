# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a system's journal, prove that it is whole, and tell its runs; reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import Anchor, Finding, read, verify
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_runs import run_lines, runs
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import printable
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import (
    open_anchor,
    read_anchors,
    read_chain,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def kept_elsewhere(params: dict[str, object], store: Store, system: str) -> list[Anchor] | None:
    """The anchors; None when there is no second place."""
    if not params.get("anchor"):
        return None
    place = open_anchor(cast("dict[str, object]", params["anchor"]), store)
    place.check(write=False)
    return read_anchors(place, system)


def sentence_of(count: int, first: int, findings: Sequence[Finding], anchors: list[Anchor] | None) -> str:
    whole = f"{count} record{'' if count == 1 else 's'}" + (f" from number {first} on" if first > 1 else "")
    if findings:
        damages = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        return f"The journal is not whole: {damages} in {whole}. First: {findings[0].sentence}"
    if not count:
        return "The journal holds no record yet."
    if anchors is None:
        tail = "no anchor is set, so records removed from its end, or written anew to its end, would not be found"
    elif not anchors:
        tail = "the anchor's place holds nothing yet"
    else:
        furthest = max(anchor.number for anchor in anchors)
        tail = f"it holds the {len(anchors)} anchored heads, the newest is number {furthest}"
    return f"The journal is whole: {whole}; {tail}."


def execute(params: dict[str, object], context: Context) -> Result:
    """The module journal_info. Raises OpsError bad_number, and the store's errors."""
    system = str(params["system"])
    first, last = int(str(params.get("first") or 1)), int(str(params.get("last") or 0))
    if first < 1 or last < 0:
        raise OpsError(
            "bad_number", "first counts from 1, and last from 0.", "Name the number of a record, and a count."
        )
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    anchors = kept_elsewhere(params, store, system)  # before the records: a head that is written meanwhile is no loss
    chain = read_chain(store, first)
    held = [*(anchors or []), *([chain.hint] if chain.hint else [])]
    findings = [*chain.strangers, *verify(chain.entries, held, first)]
    bodies = [body for body in (read(entry.text) for entry in chain.entries) if body is not None]
    told = runs(bodies)
    chosen = told[-last:] if last else []
    named = str(params.get("run") or "")
    sentence = sentence_of(len(chain.entries), first, findings, anchors)
    lines = run_lines(chosen) + ([""] if chosen else [])
    lines += [f"FINDING: {printable(finding.sentence)}" for finding in findings]
    return Result(
        message=printable(sentence),
        evidence={
            "whole": not findings,
            "findings": [finding.as_json() for finding in findings],
            "count": len(chain.entries),
            "anchored": None if not anchors else max(anchor.number for anchor in anchors),
            "runs": [run.as_json() for run in reversed(chosen)],
            "records": [body for body in bodies if named and body.get("run") == named],
            "store": store.url,
            "lines": [*lines, printable(sentence)],
        },
    )
