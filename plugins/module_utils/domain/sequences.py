# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences never go back: a number that was handed out may be known outside of the database.

They move outside of transactions, and nobody can read those of the live database in the moment of the renames. So the
database that takes over gets them with a reserve, as large as what may be handed out until then at the pace seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

# the longest that the renames can take with all their attempts, in seconds
HORIZON = 20.0
# numbers kept free beyond the pace, for a sequence that moved at all
LEAST = 32


@dataclass(frozen=True)
class SequenceState:
    """A sequence: its last value, its step, its end (largest or smallest value); called: the last was handed out."""

    name: str
    last_value: int
    increment: int
    called: bool
    bound: int

    @property
    def position(self) -> int:
        """How far it is, in the direction of its step; comparable between two readings of one sequence."""
        direction = 1 if self.increment > 0 else -1
        return 2 * self.last_value * direction + (1 if self.called else 0)

    def as_json(self) -> Json:
        """For the record of a restore."""
        return [self.last_value, self.increment, self.called, self.bound]


def sequences_json(states: Mapping[str, SequenceState]) -> dict[str, Json]:
    """For the record of a restore."""
    return {name: state.as_json() for name, state in states.items()}


def sequences_from_json(body: Mapping[str, Json]) -> dict[str, SequenceState]:
    """The reverse."""
    found = {}
    for name, item in body.items():
        value, step, called, bound = cast("list[int]", item)
        found[name] = SequenceState(name, int(value), int(step), bool(called), int(bound))
    return found


def ahead(live: Mapping[str, SequenceState], other: Mapping[str, SequenceState]) -> list[SequenceState]:
    """Live sequences that stand further than their namesakes in the other database."""
    return [live[name] for name in sorted(live) if name in other and live[name].position > other[name].position]


def reserved(
    first: Mapping[str, SequenceState],
    second: Mapping[str, SequenceState],
    seconds: float,
    other: Mapping[str, SequenceState],
) -> list[SequenceState]:
    """Where to set the sequences of the other database, from two readings of the live ones that many seconds apart.

    One that moved between them gets a reserve; one that stands still is taken as it stands.
    """
    wanted = {}
    for name, state in second.items():
        steps = abs(state.last_value - first[name].last_value) // abs(state.increment) if name in first else 0
        if steps:
            reserve = LEAST + math.ceil(steps / max(seconds, 0.001) * HORIZON)
            value = state.last_value + reserve * state.increment
            value = min(value, state.bound) if state.increment > 0 else max(value, state.bound)
            wanted[name] = replace(state, last_value=value, called=True)
        else:
            wanted[name] = state
    return ahead(wanted, other)
