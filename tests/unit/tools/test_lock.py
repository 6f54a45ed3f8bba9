# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks for several Python versions in one file."""

from __future__ import annotations

from lock import merge


def test_a_package_that_all_versions_share_stands_without_a_marker() -> None:
    assert merge({"3.11": ["six==1.0"], "3.12": ["six==1.0"]}) == ["six==1.0"]


def test_different_answers_are_told_apart_by_python_version() -> None:
    assert merge({"3.11": ["ansible==12.3.0"], "3.12": ["ansible==14.5.0"]}) == [
        'ansible==12.3.0 ; python_version < "3.12"',
        'ansible==14.5.0 ; python_version >= "3.12"',
    ]


def test_a_package_that_only_the_older_version_needs_is_left_out_for_the_newer() -> None:
    assert merge({"3.11": ["tomli==2.0"], "3.12": []}) == ['tomli==2.0 ; python_version < "3.12"']


def test_a_middle_version_is_bounded_on_both_sides() -> None:
    assert merge({"3.10": [], "3.11": ["six==1.0"], "3.12": []}) == [
        'six==1.0 ; python_version >= "3.11" and python_version < "3.12"'
    ]
