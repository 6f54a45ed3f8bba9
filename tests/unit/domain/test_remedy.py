# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line that an operator pastes: it does what the remedy says, whatever the values hold."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy, command


@pytest.mark.parametrize(
    ("remedy", "line"),
    [
        (Remedy("backup"), "ansible-playbook saasops.runbook.backup -i inv"),
        (
            Remedy("sessions", {"pid": 4711}),
            "ansible-playbook saasops.runbook.sessions -i inv -e pid=4711",
        ),
        (
            Remedy("index", {"name": "org_a.idx", "state": "absent"}),
            "ansible-playbook saasops.runbook.index -i inv -e name=org_a.idx -e state=absent",
        ),
        (
            Remedy("maintenance", {"tables": 'org_a."Campaign"'}),
            'ansible-playbook saasops.runbook.maintenance -i inv -e \'{"tables": "org_a.\\"Campaign\\""}\'',
        ),
        (Remedy("", why="Read the log."), ""),
    ],
)
def test_a_remedy_is_one_line(remedy: Remedy, line: str) -> None:
    assert command(remedy, "inv") == line


def test_inventories_and_the_host_are_named() -> None:
    assert command(Remedy("backup"), ["a b", "c"], "db-1") == (
        "ansible-playbook saasops.runbook.backup -i 'a b' -i c -l db-1"
    )


@given(st.text(max_size=40))
def test_no_value_leaves_its_place_in_the_line(value: str) -> None:
    line = command(Remedy("repair", {"fix": value}), "inv")
    assert line.isprintable()
    words = shlex.split(line)
    assert words[:5] == ["ansible-playbook", "saasops.runbook.repair", "-i", "inv", "-e"]
    assert len(words) == 6
    if words[5].startswith("{") and "!unsafe" not in words[5]:
        assert json.loads(words[5]) == {"fix": value}
    elif not words[5].startswith("{"):
        assert words[5] == f"fix={value}"
        assert not set(value) & set(" \t\n\"'{}\\=")


def test_a_value_that_looks_like_a_template_stays_text() -> None:
    line = command(Remedy("repair", {"fix": "{{ lookup('pipe', 'id') }}"}), "inv")
    assert shlex.split(line)[-1] == "{\"fix\": !unsafe \"{{ lookup('pipe', 'id') }}\"}"


@pytest.mark.parametrize(
    "remedy", [Remedy("rm -rf"), Remedy("../x"), Remedy("backup", {"a b": "1"}), Remedy("", {"a": 1})]
)
def test_what_is_no_name_is_refused(remedy: Remedy) -> None:
    with pytest.raises(OpsError) as refused:
        command(remedy, "inv")
    assert refused.value.code == "bad_remedy"
