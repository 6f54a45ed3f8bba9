# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages: read from the list, asked for by group, known by what they bring."""

from __future__ import annotations

from checks.debian import Package, install, read


def test_the_list_gives_group_name_and_proof_and_skips_comments() -> None:
    assert read("# why\n\npostgres  zstd  /usr/bin/zstd\n") == [Package("postgres", "zstd", "/usr/bin/zstd")]


def test_a_package_is_present_when_its_command_or_file_is() -> None:
    assert Package("any", "dash", "sh").present
    assert Package("any", "base-files", "/etc").present
    assert not Package("any", "none", "no-such-command-anywhere").present
    assert not Package("any", "none", "/no/such/file").present


def test_groups_that_ask_for_nothing_install_nothing() -> None:
    assert install(frozenset()) == "nothing missing"
