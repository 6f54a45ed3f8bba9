# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of tasks, as our action plugins give them and our callbacks are given them."""

from __future__ import annotations

from typing import Any

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError


def failure(error: OpsError) -> dict[str, object]:
    """A refusal as the result of a task, in the words of a module's."""
    return {"failed": True, **error.as_result()}


def part_of(result: Any, name: str) -> Any:
    """A part of a callback's result: core 2.19 and newer have it without the underscore, 2.16 only with it."""
    return getattr(result, name) if hasattr(result.__class__, name) else getattr(result, f"_{name}")
