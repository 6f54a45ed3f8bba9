# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults that the comparison plants, the same for whoever is compared."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.saasops.runbook.tests.lab.postgres import Server

PERCENT = 60
STRANGER = "comparison_stranger"
STRANGER_PASSWORD = "stranger"  # noqa: S105  of a role of the lab's own server

_CUT = """#!/bin/sh
# A planted fault: the dump ends after {percent} % of its bytes, and the exit code says that all is well.
case " $* " in *" --version "* | *" --schema-only "*) exec {program} "$@" ;; esac
whole=$(mktemp) && trap 'rm -f "$whole"' EXIT
{program} "$@" >"$whole" || exit $?
head -c $(($(stat -c %s "$whole") * {percent} / 100)) "$whole"
"""


def cutting_programs(real: Path, folder: Path) -> Path:
    """A folder of client programs whose pg_dump writes 60 % of its output and exits 0; the others are the real ones."""
    folder.mkdir(parents=True)
    for program in ("psql", "pg_restore", "pg_dumpall"):
        (folder / program).symlink_to(real / program)
    wrapper = folder / "pg_dump"
    wrapper.write_text(_CUT.format(program=shlex.quote(str(real / "pg_dump")), percent=PERCENT), encoding="utf-8")
    wrapper.chmod(0o755)
    return folder


def flip_a_bit(store: Path) -> Path:
    """Flip the lowest bit in the middle of the largest file below the folder; length and times stay. Which file."""
    largest = max((path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as stream:
        middle = largest.stat().st_size // 2
        stream.seek(middle)
        byte = stream.read(1)[0]
        stream.seek(middle)
        stream.write(bytes([byte ^ 1]))
    return largest


def admit_only_the_application(server: Server) -> None:
    """A login role that the database's grants keep out: PUBLIC may not connect, the application may."""
    server.psql(f"DROP ROLE IF EXISTS {STRANGER}; CREATE ROLE {STRANGER} LOGIN PASSWORD '{STRANGER_PASSWORD}'")
