# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A signal that somebody took for another error still stops the run before anything final."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils import module
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.module import Heeding, Unguarded


@pytest.fixture
def heeding() -> Iterator[Heeding]:
    made = Heeding(Unguarded())
    before = signal.signal(signal.SIGTERM, made.end)
    yield made
    signal.signal(signal.SIGTERM, before)


ACTS: list[Callable[[Heeding], None]] = [lambda h: h.confirm(), lambda h: h.authorise(Plan("backup", ()))]


@pytest.mark.parametrize("act", ACTS)
def test_nothing_final_is_begun_after_a_signal_that_went_unheeded(
    heeding: Heeding, act: Callable[[Heeding], None]
) -> None:
    act(heeding)
    with contextlib.suppress(OpsError):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(OpsError, match="received SIGTERM") as caught:
        act(heeding)
    assert caught.value.code == "interrupted"
    assert caught.value.ends


def test_a_second_signal_does_not_cut_the_cleaning_up_and_a_late_one_is_heard(
    heeding: Heeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OpsError):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with pytest.raises(OpsError):
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_was_opened_can_be_closed_after_a_signal(heeding: Heeding) -> None:
    with contextlib.suppress(OpsError):
        os.kill(os.getpid(), signal.SIGTERM)
    heeding.closes("x", "interrupted")
    heeding.says("note", {})
