# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The home that ansible-test is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.sanity import endless, installer_names, nothing_tested, pip_settings


def test_pip_settings_of_files_and_of_the_environment_become_sections() -> None:
    listing = ":env:.cert='/etc/ssl/ca.pem'\nglobal.timeout='60'\ninstall.no-compile='true'\n"
    assert pip_settings(listing) == {
        "global": {"cert": "/etc/ssl/ca.pem", "timeout": "60"},
        "install": {"no-compile": "true"},
    }


def test_a_setting_of_several_lines_stays_one_value_of_a_configuration_file() -> None:
    assert pip_settings(r"global.find-links='/a\n/b'") == {"global": {"find-links": "/a\n\t/b"}}


def test_installers_are_named_after_every_pip_that_ansible_test_pins() -> None:
    assert installer_names("pip='25.2',\n  pip='23.1.2',") == {"get_pip_25_2.py", "get_pip_23_1_2.py"}


@pytest.mark.parametrize(("log", "nothing"), [("WARNING: All targets skipped.\n", True), ("Running sanity", False)])
def test_a_sanity_run_that_looked_at_no_file_is_recognised(log: str, nothing: bool) -> None:
    assert nothing_tested(log) is nothing


def test_a_parameter_named_like_its_annotation_is_found_before_ansible_test_hangs_on_it(tmp_path: Path) -> None:
    file = tmp_path / "tests" / "one.py"
    file.parent.mkdir()
    file.write_text("def fine(a: int): ...\n\n\ndef hangs(connection: connection): ...\n", encoding="utf-8")
    assert endless(tmp_path) == ["tests/one.py:4"]
