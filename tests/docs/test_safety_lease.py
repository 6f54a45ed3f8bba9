# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/safety.md, "One run at a time": its commands show a lease and end it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.docs.guide import Reader, sections
from ansible_collections.saasops.runbook.tests.lab.leases import NAME, ask


def test_the_commands_of_one_run_at_a_time_show_the_lease_and_end_it(
    reader: Callable[..., Reader], store: Path
) -> None:
    leases = Leases(PosixStore(str(store)))
    leases.acquire(ask("r1"), time.time())
    somebody = reader()
    somebody.follow(sections("docs/safety.md")["One run at a time"])
    status, unlocked = somebody.outputs[:2]
    assert "database:app: HELD by anna on ctl-1" in status
    assert "The lease database:app is ended." in unlocked
    end = leases.look(NAME).end
    assert end is not None
    assert (end.how, end.reason) == ("unlocked", "the controller lost its power")
    assert end.by == os.environ.get("USER", "")
