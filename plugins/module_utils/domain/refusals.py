# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusals are collected and shown all at once: nobody wants to meet them one run at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError


@dataclass(frozen=True)
class Refusal:
    """A reason not to act. One that can be acknowledged by its code becomes a warning of the plan."""

    error: OpsError
    acknowledgeable: bool = False


def settle(found: Sequence[Refusal], acknowledged: Collection[str]) -> tuple[str, ...]:
    """The warnings that remain when every refusal was acknowledged.

    Raises the OpsError of a single refusal, or one with the code of the first that names them all
    (details["codes"]).
    """
    open_ones = [item for item in found if not (item.acknowledgeable and item.error.code in acknowledged)]
    if open_ones:
        raise _together(open_ones)
    return tuple(f"acknowledged [{item.error.code}]: {item.error.cause}" for item in found)


def _remedy(item: Refusal) -> str:
    if not item.acknowledgeable:
        return item.error.remedy
    return f"{item.error.remedy} To go on nevertheless, add {item.error.code} to acknowledge."


def _together(found: Sequence[Refusal]) -> OpsError:
    first = found[0].error
    if len(found) == 1:
        return OpsError(first.code, first.cause, _remedy(found[0]), {**first.details, "codes": [first.code]})
    return OpsError(
        first.code,
        " ".join(f"({n}) [{item.error.code}] {item.error.cause} {_remedy(item)}" for n, item in enumerate(found, 1)),
        "Nothing was changed.",
        {"codes": [item.error.code for item in found], **{item.error.code: item.error.details for item in found}},
    )
