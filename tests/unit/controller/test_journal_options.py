# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's anchor is named like any store."""

from __future__ import annotations

import yaml

from ansible_collections.saasops.runbook.plugins.doc_fragments.store import ModuleDocFragment
from ansible_collections.saasops.runbook.plugins.modules.journal_info import SPEC


def test_the_anchor_is_documented_with_every_option_of_its_specification() -> None:
    anchor = yaml.safe_load(ModuleDocFragment.ANCHOR)["options"]["anchor"]
    specified = SPEC["anchor"]
    assert isinstance(specified, dict)
    assert not anchor.get("required", False)
    assert not specified["required"]
    assert set(anchor["suboptions"]) == set(specified["options"])
    assert "O(store." not in ModuleDocFragment.ANCHOR
