# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/passwords.md: every way that it shows works, and the password is seen nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.saasops.runbook.tests.docs.guide import Reader, sections

if TYPE_CHECKING:
    from ansible_collections.saasops.runbook.tests.docs.conftest import Shop

SECTIONS = sections("docs/passwords.md")
WAYS = ("Peer: no password at all", ".pgpass", "Service file", "Environment", "ansible-vault")
REFUSED = "A wrong password"

MakeReader = Callable[..., Reader]


def planted(shop: Shop, folders: list[Path], but: set[Path]) -> list[Path]:
    """Files that hold the password, the known ones left out."""
    secret = shop.password.encode()
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file() and path not in but)
    return [path for path in files if secret in path.read_bytes()]


def test_the_guide_has_exactly_these_examples() -> None:
    assert set(SECTIONS) == {*WAYS, REFUSED}


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_give_the_password_works_and_shows_it_nowhere(
    way: str, reader: MakeReader, shop: Shop, store: Path, tmp_path: Path
) -> None:
    somebody = reader(loud=True)
    somebody.follow(SECTIONS[way])
    assert len(list(store.glob("backups/*/manifest.json"))) == 1, "a set is there"

    said = "\n".join(somebody.outputs)
    assert "1 set written and proven" in said
    assert shop.password not in said
    assert shop.password.replace("'", "\\'") not in said
    source = {somebody.home / ".pgpass", somebody.home / ".pg_service.conf", tmp_path / "secret"}
    assert planted(shop, [somebody.folder, store], source) == []
    assert shop.password not in shop.server.log.read_text(encoding="utf-8", errors="replace")


def test_a_wrong_password_is_refused_and_nothing_is_stored(reader: MakeReader, store: Path) -> None:
    reader(loud=True).follow(SECTIONS[REFUSED])
    assert list(store.glob("backups/*/*")) == []


def test_a_way_that_is_not_open_does_not_work(reader: MakeReader, shop: Shop, store: Path) -> None:
    """The examples prove something: without the password that each of them gives the server refuses."""
    somebody = reader()
    somebody.values = {**somebody.values, shop.password: "wrong", "correct horse battery staple": "wrong"}
    with pytest.raises(AssertionError, match="wrong_password"):
        somebody.follow(SECTIONS["Service file"])
    assert list(store.glob("backups/*/*")) == []
