# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health: what a check is, what was measured for it, and what that means. No data is never ok.

A check carries its thresholds as text (domain/health_grammar.py): an expression that is true when there is trouble.
A source hands back one Measurement, or one for each scope (a tenant's schema, a database, an index); the check's
outcome is the worst of them.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_grammar import parse_threshold
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import Point, Threshold, Value
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import shown

MOST_DETAIL = 20  # lines of an outcome
MOST_REMEDIES = 3  # of one outcome, and of a verdict


class Level(str, enum.Enum):
    """What a check came to. A verdict over several is the worst: critical, warning, inconclusive, ok."""

    OK = "ok"
    INCONCLUSIVE = "inconclusive"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return _ORDER.index(self)

    @property
    def exit_status(self) -> int:
        """As monitoring plugins have it: ok 0, warning 1, critical 2, inconclusive 3."""
        return {"ok": 0, "warning": 1, "critical": 2, "inconclusive": 3}[self.value]


_ORDER = (Level.OK, Level.INCONCLUSIVE, Level.WARNING, Level.CRITICAL)


def worst(levels: Sequence[Level]) -> Level:
    """The verdict over several; inconclusive over none, because nobody looked."""
    return max(levels, key=lambda level: level.rank, default=Level.INCONCLUSIVE)


@dataclass(frozen=True)
class Measurement:
    """One value, or why there is none.

    value:   in the check's unit (bytes, seconds, %, a count, a word); None when nothing was seen
    samples: how many observations the value rests on (calls, rows, requests)
    detail:  lines for whoever looks closer; what is past MOST_DETAIL lines is counted only
    scope:   whose value this is, "" for the whole (a tenant's schema, a database, schema.table, a pid)
    missing: why the value could not be seen, as a sentence without a full stop; a missing grant by its name
             ("needs GRANT pg_monitor TO app"); value is then None
    down:    missing because the thing itself is not there or does not answer (Check.when_down decides)
    remedy:  what cures this very finding; before the check's own
    facts:   for {name} in a remedy, besides {scope} and {value} (of rows: the columns of the first one)
    """

    value: Value = None
    samples: int = 1
    detail: tuple[str, ...] = ()
    scope: str = ""
    missing: str = ""
    down: bool = False
    remedy: Remedy | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One question with its thresholds.

    name:     unique, stable: what -e only= and the inventory's overrides name
    source:   sql, http, promql, command, redis, file, builtin
    warning, critical: threshold expressions, "" for none ("> 80 %", "> 5 min for 10m", "!= 'ok'")
    unit:     of the measured value: %, ratio, s, ms, min, h, d, B, kB ... GiB, or a word such as rows; "" for a count
    minimum_samples: fewer are inconclusive
    hold:     how long both expressions must have been true ("10m"), "" for at once
    remedy:   what cures it when it is a warning or critical
    title:    what the table says; the name when empty
    when_down: the level when the thing does not answer at all
    priority: among remedies of one level the lower comes first
    """

    name: str
    source: str
    warning: str = ""
    critical: str = ""
    unit: str = ""
    minimum_samples: int = 1
    hold: str = ""
    remedy: Remedy | None = None
    title: str = ""
    when_down: Level = Level.INCONCLUSIVE
    priority: int = 50

    def thresholds(self) -> tuple[Threshold | None, Threshold | None]:
        """(warning, critical), parsed. Raises OpsError bad_threshold."""
        return self._parsed("warning", self.warning), self._parsed("critical", self.critical)

    def _parsed(self, option: str, text: str) -> Threshold | None:
        if not text.strip():
            return None
        return parse_threshold(text, self.unit, self.hold, f"check {self.name}: {option}")


@dataclass(frozen=True)
class Outcome:
    """What a check came to.

    value, unit, scope: of the worst measurement; why: a sentence with number, threshold and unit
    detail: at most MOST_DETAIL lines; remedies: at most MOST_REMEDIES, of the worst scopes, none when ok
    scopes: how many were measured; bad: how many of them are not ok
    """

    check: Check
    level: Level
    value: Value
    unit: str
    why: str
    detail: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    scope: str = ""
    scopes: int = 1
    bad: int = 0

    @property
    def name(self) -> str:
        return self.check.name

    @property
    def title(self) -> str:
        return self.check.title or self.check.name

    @property
    def remedy(self) -> Remedy | None:
        """The first remedy."""
        return self.remedies[0] if self.remedies else None

    def as_dict(self) -> dict[str, object]:
        """For a result: JSON shapes only."""
        value = self.value
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        return {
            "name": self.name,
            "title": self.title,
            "source": self.check.source,
            "level": self.level.value,
            "value": value,
            "unit": self.unit,
            "scope": self.scope,
            "scopes": self.scopes,
            "not_ok": self.bad,
            "warning": self.check.warning,
            "critical": self.check.critical,
            "why": self.why,
            "detail": list(self.detail),
            "remedies": [item.as_dict() for item in self.remedies],
        }


# (check name, scope) -> points from old to new, without the present one
History = Mapping["tuple[str, str]", Sequence[Point]]


@dataclass(frozen=True)
class _Finding:
    measurement: Measurement
    level: Level
    why: str


def judge(check: Check, measurements: Sequence[Measurement], history: History | None, now: float) -> Outcome:
    """What the measurements of one check mean. history None: there is none, so nothing can have been held.

    now: POSIX seconds of the measurements. Raises OpsError bad_threshold.
    """
    warning, critical = check.thresholds()
    if not measurements:
        measurements = (Measurement(missing="nothing was measured"),)
    findings = [_find(check, item, warning, critical, history, now) for item in measurements]
    # sorted is stable: of equals the one that the source gave first
    findings.sort(key=lambda finding: -finding.level.rank)
    first, bad = findings[0], [finding for finding in findings if finding.level is not Level.OK]
    why = first.why
    if len(findings) > 1 and bad:
        why = f"{why}; {len(bad)} of {len(findings)} are not ok"
    elif len(findings) > 1:
        why = f"all {len(findings)} are ok; {why}"
    return Outcome(
        check=check,
        level=first.level,
        value=first.measurement.value,
        unit=check.unit,
        why=why,
        detail=_detail(findings, bad),
        remedies=_remedies(check, bad),
        scope=first.measurement.scope,
        scopes=len(findings),
        bad=len(bad),
    )


def rank_remedies(outcomes: Sequence[Outcome], most: int = MOST_REMEDIES) -> list[tuple[Outcome, Remedy]]:
    """At most so many different remedies with a verb, of the worst outcomes first, each check once before any twice."""
    order = sorted(
        (outcome for outcome in outcomes if outcome.level is not Level.OK),
        key=lambda outcome: (-outcome.level.rank, outcome.check.priority),
    )
    chosen: list[tuple[Outcome, Remedy]] = []
    for turn in range(MOST_REMEDIES):
        for outcome in order:
            for remedy in outcome.remedies[turn : turn + 1]:
                known = any((its.verb, its.variables) == (remedy.verb, remedy.variables) for _of, its in chosen)
                if remedy.verb and not known:
                    chosen.append((outcome, remedy))
    return chosen[:most]


def failed(check: Check, error: OpsError) -> Outcome:
    """The outcome of a check whose source broke."""
    return judge(check, [Measurement(missing=f"{error.cause.rstrip('.')} [{error.code}]")], None, 0.0)


def _find(
    check: Check,
    its: Measurement,
    warning: Threshold | None,
    critical: Threshold | None,
    history: History | None,
    now: float,
) -> _Finding:
    where = f"{its.scope}: " if its.scope else ""
    if its.missing:
        return _Finding(its, check.when_down if its.down else Level.INCONCLUSIVE, f"{where}{its.missing}")
    if its.value is None:
        return _Finding(its, Level.INCONCLUSIVE, f"{where}no value (NULL)")
    if isinstance(its.value, float) and math.isnan(its.value):
        return _Finding(its, Level.INCONCLUSIVE, f"{where}the value is not a number (NaN)")
    if its.samples < check.minimum_samples:
        few = f"only {its.samples} of at least {check.minimum_samples} samples"
        return _Finding(its, Level.INCONCLUSIVE, f"{where}{shown(its.value, check.unit)}, but {few}")
    points = () if history is None else history.get((check.name, its.scope), ())
    value, unknown = shown(its.value, check.unit), ""
    for level, threshold in ((Level.CRITICAL, critical), (Level.WARNING, warning)):
        if threshold is None:
            continue
        found = threshold.holds(its.value, points, now)
        if found.true:
            return _Finding(its, level, f"{where}{value}, {level.value} when {threshold}{unknown}")
        if found.true is None:
            unknown += f" ({level.value} is not known: {found.why})"
    if unknown:
        return _Finding(its, Level.INCONCLUSIVE, f"{where}{value}{unknown}")
    limits = [f"{name} when {limit}" for name, limit in (("warning", warning), ("critical", critical)) if limit]
    return _Finding(its, Level.OK, f"{where}{value}, {', '.join(limits) or 'no threshold'}")


def _detail(findings: Sequence[_Finding], bad: Sequence[_Finding]) -> tuple[str, ...]:
    lines: list[str] = []
    for finding in bad or findings[:1]:
        if len(findings) > 1 and bad:
            lines.append(f"{finding.level.value}: {finding.why}")
        lines += list(finding.measurement.detail)
    if len(lines) > MOST_DETAIL:
        return (*lines[: MOST_DETAIL - 1], f"... and {len(lines) - MOST_DETAIL + 1} more")
    return tuple(lines)


def _remedies(check: Check, bad: Sequence[_Finding]) -> tuple[Remedy, ...]:
    chosen: list[Remedy] = []
    for finding in bad:
        its = finding.measurement
        # nobody knows yet that the check's own remedy is called for
        remedy = its.remedy or (check.remedy if finding.level is not Level.INCONCLUSIVE else None)
        if remedy is None:
            continue
        remedy = remedy.filled({**its.facts, "scope": its.scope, "value": str(its.value)})
        if remedy not in chosen:
            chosen.append(remedy)
        if len(chosen) == MOST_REMEDIES:
            break
    return tuple(chosen)
