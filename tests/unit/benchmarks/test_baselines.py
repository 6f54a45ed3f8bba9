# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.benchmarks.baselines import BASELINES, Step, programs, written
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError, run_steps

WORDS = {"bin": "/pg", "database": "d", "store": "/s", "staging": "/t", "copy": "c"}
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_filled_without_a_word_left_over(name: str) -> None:
    for step in BASELINES[name]:
        filled = str(step.filled(WORDS)).replace("{}", "")
        assert "{" not in filled
        assert "}" not in filled


@pytest.mark.parametrize("name", [name for name in BASELINES if "pg_dump" in name])
def test_every_dump_ends_on_the_device_as_ours_does(name: str) -> None:
    commands = [step.filled(WORDS).pipeline for step in BASELINES[name]]
    assert (("find", "/s", "-exec", "sync", "{}", "+"),) in commands


def test_a_baseline_is_shown_as_it_is_typed() -> None:
    assert written("pg_dump | gzip").splitlines() == [
        "{bin}/pg_dump {database} | gzip > {store}/dump.sql.gz",
        "find {store} -exec sync {} +",
    ]


def test_programs_besides_the_servers_own_are_known() -> None:
    assert programs("pg_dump | zstd") == {"zstd", "find"}


def test_a_pipeline_passes_bytes_from_file_to_file(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"b\na\n" * 100_000)
    step = Step((("cat",), ("sort", "-u")), stdin=str(tmp_path / "in"), stdout=str(tmp_path / "out"))
    assert run_steps([step], ENVIRONMENT) > 0
    assert (tmp_path / "out").read_bytes() == b"a\nb\n"


@pytest.mark.parametrize("pipeline", [(("false",), ("cat",)), (("echo",), ("false",))])
def test_a_failure_anywhere_in_a_pipeline_fails_it(pipeline: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(FailedError, match="false exited 1"):
        run_steps([Step(pipeline)], ENVIRONMENT)
