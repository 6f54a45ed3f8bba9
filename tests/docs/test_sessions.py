# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/sessions.md as a reader types it, on a server where sessions block each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.saasops.runbook.tests.docs.conftest import Shop
from ansible_collections.saasops.runbook.tests.docs.guide import Reader, sections
from ansible_collections.saasops.runbook.tests.lab.clients import Client, until, waiting

ROLE = "shop_web"
ROW = "UPDATE orders SET id = id WHERE id = 1"


def test_the_guide_ends_the_forgotten_and_the_prepared_and_nobody_else(
    reader: Callable[..., Reader], shop: Shop, store: Path
) -> None:
    shop.server.psql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'; GRANT ALL ON orders TO {ROLE}", "shop")
    root = Client(shop.server, "shop", ROLE).run("BEGIN", ROW)
    victim = Client(shop.server, "shop", ROLE).start(ROW)
    other = Client(shop.server, "shop", ROLE, "psql").run("SELECT 1")
    half = Client(shop.server, "shop", ROLE).run("BEGIN", "SELECT 1", "PREPARE TRANSACTION 'transfer-7'")
    try:
        until(waiting(shop.server, victim))
        time.sleep(1)
        somebody = reader()
        somebody.follow(sections("docs/sessions.md")["Look first"])
        assert f"pid {root.pid}" in somebody.outputs[-1]
        assert "policy=forgotten would end 1" in somebody.outputs[-1]
        assert root.lives()
        root.run(ROW)
        time.sleep(1.1)
        somebody.follow(sections("docs/sessions.md")["End the ones in the way"])
        assert not root.lives()
        assert victim.done()
        assert victim.error is None
        assert other.lives()
        somebody.follow(sections("docs/sessions.md")["How they are ended"])
        assert shop.server.psql("SELECT count(*) FROM pg_prepared_xacts") == "0"
    finally:
        for client in (root, victim, other, half):
            client.close()
        shop.server.psql(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}", "shop")
