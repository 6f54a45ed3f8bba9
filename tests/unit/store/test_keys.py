# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.keys import check_key, check_prefix, valid_key


@given(st.text(max_size=40) | st.text(alphabet="a./-_ \n", max_size=12))
def test_no_valid_key_leaves_the_root(key: str) -> None:
    if valid_key(key):
        path = os.path.normpath(os.path.join("/root/of/store", key))
        assert path == "/root/of/store/" + key
        assert not key.startswith(".tmp")


@pytest.mark.parametrize(
    "key", ["a", "backups/20261122T201747Z-1a2b3c4d/objects/0000.zst", "a/b=c/_d-e.json", "-", "x" * 200]
)
def test_keys_that_we_make_are_valid(key: str) -> None:
    assert check_key(key) == key
    for length in range(len(key) + 1):
        assert check_prefix(key[:length]) == key[:length]


@pytest.mark.parametrize("prefix", ["/", "..", "a//", "a/../", ".tmp", "a b", "\n"])
def test_a_prefix_that_begins_no_key_is_refused(prefix: str) -> None:
    with pytest.raises(OpsError) as caught:
        check_prefix(prefix)
    assert caught.value.code == "bad_key"
