# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error an operator meets: a code, a cause, a remedy."""

from __future__ import annotations

from collections.abc import Mapping

# codes of what ends a run from outside: a signal, the end of its window
ENDINGS = frozenset(("interrupted", "window_ended"))


class OpsError(Exception):
    """A refusal or a failure that names what is wrong and what to do.

    code:    stable snake_case name, for scripts and tests
    cause:   one sentence on what is wrong
    remedy:  one sentence on what to do
    details: facts for machines (counts, lists, sizes in bytes); never a secret
    """

    def __init__(self, code: str, cause: str, remedy: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{cause} {remedy}")
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.details = dict(details or {})

    def as_result(self) -> dict[str, object]:
        """What a module or a task returns of it."""
        return {
            "msg": self.message,
            "code": self.code,
            "cause": self.cause,
            "remedy": self.remedy,
            "details": self.details,
        }

    @property
    def ends(self) -> bool:
        """Whether the run was told to end: it may come out of any call, and is never one to go past."""
        return self.code in ENDINGS

    @property
    def message(self) -> str:
        """What is printed: the code for searching, then cause and remedy."""
        return f"[{self.code}] {self.cause} {self.remedy}"
