# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a system as one JSON value: nothing secret, nothing that hides, bounded in size.

The page that shows it (plugin_utils/report_page.py) decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.redact import REDACTED, clean_text, looks_secret

FORMAT = 1
MOST_FINDINGS = 100


@dataclass(frozen=True)
class Proof:
    """What journal_verify says: findings as (number, code, sentence), the chain's end, and the newest anchor."""

    findings: Sequence[tuple[int, str, str]]
    sentence: str
    count: int
    head: int
    head_sha256: str
    anchored: int | None
    has_anchor: bool


def shown(text: str) -> str:
    """text without secrets, and with what would hide or turn other text written as an escape; line ends stay."""
    visible = "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )
    return clean_text(visible)


def scrub(value: Json) -> Json:
    """The same value with every text cleaned and every value under a secret name taken out."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if isinstance(value, Mapping):
        return {
            name: REDACTED if looks_secret(name) and isinstance(item, str) and item else scrub(item)
            for name, item in value.items()
        }
    return value


def _journal(proof: Proof) -> dict[str, Json]:
    return {
        "whole": not proof.findings,
        "sentence": proof.sentence,
        "count": proof.count,
        "head": proof.head,
        "head_sha256": proof.head_sha256,
        "anchored": proof.anchored,
        "has_anchor": proof.has_anchor,
        "findings": [
            {"number": number, "code": code, "msg": sentence}
            for number, code, sentence in proof.findings[:MOST_FINDINGS]
        ],
        "findings_more": max(0, len(proof.findings) - MOST_FINDINGS),
    }


def _number(view: Mapping[str, Json], name: str) -> int:
    value = view.get(name)
    return value if isinstance(value, int) else 0


def _glance(
    proof: Proof, runs: Mapping[str, Json], backups: Mapping[str, Json], drills: Mapping[str, Json]
) -> list[Json]:
    """What an auditor asks first, a card each: name, tone (good, warn, bad, plain), the answer, a line below it."""
    cards: list[Json] = []

    def say(name: str, target: str, tone: str, answer: str, below: str) -> None:
        cards.append({"name": name, "target": target, "tone": tone, "answer": answer, "below": below})

    held = f"{proof.count:,} records" + ("" if proof.has_anchor else ", no anchor in a second place")
    if proof.findings:
        say("Journal", "journal", "bad", "Damaged", f"{len(proof.findings)} findings in {proof.count:,} records")
    elif not proof.count:
        say("Journal", "journal", "plain", "Empty", "Nothing was journaled yet")
    else:
        say("Journal", "journal", "good" if proof.has_anchor else "warn", "Whole", held)

    points = backups.get("points")
    worst: Mapping[str, Json] = {}
    order = ("ok", "unknown", "warning", "critical")
    for point in points if isinstance(points, list) else []:
        if isinstance(point, Mapping) and (
            not worst or order.index(str(point["verdict"])) > order.index(str(worst["verdict"]))
        ):
            worst = point
    tone = {"ok": "good", "unknown": "plain", "warning": "warn"}.get(str(worst.get("verdict")), "bad")
    rpo = f"RPO {backups['rpo']}" if backups.get("rpo") else "no RPO is set"
    if worst.get("age"):
        say("Newest proven backup", "backups", tone, f"{worst['age']} old", f"{worst['database']}; {rpo}")
    else:
        say("Newest proven backup", "backups", tone, "None", f"No proven backup at all; {rpo}")

    latest = drills.get("latest")
    if isinstance(latest, Mapping):
        met = latest["passed"] is True
        say(
            "Last drill",
            "drills",
            "good" if met else "bad",
            f"{'Passed' if met else 'Failed'} {latest['age']}",
            f"RTO {latest['rto']}; RPO {latest['rpo']}",
        )
    else:
        say("Last drill", "drills", "warn", "Never", "No restore was ever tried in a drill")

    totals = runs.get("totals")
    counts = totals if isinstance(totals, Mapping) else {}
    troubles = [f"{counts[name]} {name}" for name in ("failed", "refused", "open") if counts.get(name)]
    total = _number(counts, "runs")
    grave = _number(counts, "failed") + _number(counts, "open")
    say("Runs", "runs", "warn" if grave else "plain", f"{total:,}", ", ".join(troubles) or "none failed or refused")
    passed = _number(counts, "bypassed")
    words = "runs went past a safeguard" if passed != 1 else "run went past a safeguard"
    say(
        "Bypasses", "bypasses", "bad" if passed else "good", str(passed), words if passed else "No safeguard was passed"
    )
    return cards


def report_view(
    system: str,
    store: str,
    proof: Proof,
    runs: Mapping[str, Json],
    backups: Mapping[str, Json],
    drills: Mapping[str, Json],
    now: float,
    gathered: float,
    health: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """The whole report. now: POSIX seconds it speaks of; gathered: seconds that reading took."""
    whole: dict[str, Json] = {
        "format": FORMAT,
        "system": system,
        "store": store,
        "at": utc(now),
        "at_iso": iso(now),
        "gathered": human_duration(gathered),
        "glance": _glance(proof, runs, backups, drills),
        "journal": _journal(proof),
        "timeline": dict(runs),
        "backups": dict(backups),
        "drills": dict(drills),
        "health": dict(health or {"rows": []}),
    }
    return {name: scrub(value) for name, value in whole.items()}
