# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a store, as an inventory names it, becomes what the modules take."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.filter.resolve_store import resolve_store

HOSTVARS = {
    "db1": {"ansible_host": "10.0.0.1"},
    "backup1": {"ansible_host": "10.0.0.9", "ansible_port": 2222, "ansible_user": "keeper"},
    "backup2": {},
    "backup3": {"ansible_ssh_host": "10.0.0.11", "ansible_ssh_port": "24", "ansible_ssh_user": "old"},
}


@pytest.mark.parametrize(
    ("store", "resolved"),
    [
        ({}, {}),
        ({"path": "/b"}, {"path": "/b"}),
        ({"type": "s3", "bucket": "b"}, {"type": "s3", "bucket": "b"}),
        ({"path": "/b", "host": ""}, {"path": "/b", "host": ""}),
        ({"path": "/b", "host": "backup1"}, {"path": "/b", "host": "10.0.0.9", "port": 2222, "user": "keeper"}),
        (
            {"path": "/b", "host": "backup1", "port": 22, "user": "me", "identity_file": "/k"},
            {"path": "/b", "host": "10.0.0.9", "port": 22, "user": "me", "identity_file": "/k"},
        ),
        ({"path": "/b", "host": "backup2"}, {"path": "/b", "host": "backup2"}),
        ({"path": "/b", "host": "backup3"}, {"path": "/b", "host": "10.0.0.11", "port": "24", "user": "old"}),
        ({"path": "/b", "host": "10.9.9.9", "user": "u"}, {"path": "/b", "host": "10.9.9.9", "user": "u"}),
        ({"path": "/b", "host": "db1", "port": 1, "user": "u", "known_hosts": "/k"}, {"path": "/b"}),
    ],
)
def test_a_name_of_the_inventory_becomes_its_address_unless_told_otherwise(
    store: dict[str, object], resolved: dict[str, object]
) -> None:
    before = dict(store)
    assert resolve_store(store, HOSTVARS, "db1") == resolved
    assert store == before
