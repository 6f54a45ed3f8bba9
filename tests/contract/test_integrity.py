# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage of real clusters is found and recorded: what holds which verbs back, the evidence, the sets from before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.admitted import Opening
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.execute import integrity
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result, Unguarded
from ansible_collections.saasops.runbook.plugins.module_utils.store import open_items
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, postgres
from ansible_collections.saasops.runbook.tests.lab.backup_sets import HOUR, make_set
from ansible_collections.saasops.runbook.tests.lab.damage import lose_index_rows, turn_bytes
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

DATABASE = "app"


@dataclass
class Recorder(Unguarded):
    """Records open items as admission does, without the rest of the guard."""

    store: PosixStore

    def opens(self, opening: Opening) -> None:
        item = OpenItem(
            opening.id,
            "test",
            "host",
            opening.what,
            "integrity",
            "run",
            "me",
            time.time(),
            opening.module,
            opening.undo,
            outlives=opening.outlives,
            holds=opening.holds,
        )
        open_items.record(self.store, item)

    def closes(self, identifier: str, how: str) -> None:
        item = open_items.look(self.store, identifier)
        assert item is not None
        open_items.close(self.store, item, "run", how, time.time())


@dataclass
class Scene:
    server: Server
    folder: Path
    lines: list[str] = field(default_factory=list)

    @property
    def store(self) -> PosixStore:
        return PosixStore(str(self.folder), create=True)

    def run(self, *, check: bool = False, glass: bool = False, **changes: object) -> Result:
        parameters = {
            "system": "test",
            "connection": acts.connection(self.server),
            "store": {"type": "posix", "path": str(self.folder), "create": True},
            "databases": [DATABASE],
            "tables": ["public.*", "pg_toast.*"],
            **changes,
        }
        context = replace(acts.context(check, self.lines), go_past=lambda _error, _what: glass)
        if not glass:
            context = replace(context, admission=Recorder(self.store))
        return integrity.execute(parameters, context)

    def held(self) -> list[OpenItem]:
        return open_items.read(self.store, "test")[0]

    def evidence(self, result: Result) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / str(result.evidence["evidence"])).read_text("utf-8"))
        return found


@pytest.fixture(params=[15, 18], ids=["pg15", "pg18"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with postgres.running(request.param) as server:
        server.createdb(DATABASE)
        server.psql(
            "CREATE EXTENSION amcheck; CREATE TABLE items (id int PRIMARY KEY, note text);"
            "INSERT INTO items SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i",
            DATABASE,
        )
        yield Scene(server, tmp_path / "store")


def test_a_sound_server_leaves_no_trace(scene: Scene) -> None:
    done = scene.run()
    assert not done.changed
    assert done.evidence["suspected"] is False
    assert done.evidence["checked"] >= 3  # type: ignore[operator]
    assert done.evidence["unchecked"] == []
    assert scene.held() == []
    assert not list(scene.folder.rglob("*.json"))


# amcheck looks for broken uniqueness from 17 on
@pytest.mark.parametrize("scene", [15, 17, 18], indirect=True, ids=["pg15", "pg17", "pg18"])
def test_a_turned_page_is_found_recorded_once_and_released(scene: Scene) -> None:
    before = make_set(scene.folder, time.time() - HOUR, system="test", database=DATABASE)
    file = turn_bytes(scene.server, DATABASE, "items", page=3)
    checked = scene.run(check=True)
    assert checked.evidence["suspected"] is True
    assert scene.held() == []
    done = scene.run()
    assert done.changed
    (found,) = [item for item in done.evidence["findings"] if item["relation"] == "public.items"]  # type: ignore[union-attr]
    assert found["block"] == 3
    assert str(file).endswith(str(found["file"]))
    assert done.evidence["sets"] == [before]
    (item,) = scene.held()
    assert item.holds == ("prune", "cleanup", "restart", "restore_finish", "maintenance:rewrite")
    kept = scene.evidence(done)
    assert found in kept["findings"]  # type: ignore[operator]
    assert kept["server"]["data_checksums"] == "on"  # type: ignore[index]
    assert (scene.folder / "backups" / before / "pin.json").exists()
    again = scene.run()
    assert (again.changed, again.evidence["suspected"]) == (False, True)
    with pytest.raises(OpsError, match="without a reason"):
        scene.run(state="released", reason=" ")
    assert scene.run(state="released", reason="a test").changed
    assert scene.held() == []
    assert not (scene.folder / "backups" / before / "pin.json").exists()
    assert not scene.run(state="released", reason="a test").changed
    assert scene.evidence(done) == kept


def test_a_suspicion_is_recorded_although_the_server_is_down(scene: Scene) -> None:
    scene.server.stop("fast")
    with pytest.raises(OpsError) as down:
        scene.run(suspected="it does not start")
    assert down.value.code == "server_unreachable"
    (item,) = scene.held()
    assert "it does not start" in item.what
    assert len(list(scene.folder.glob("integrity/*.json"))) == 1


def test_break_glass_without_a_store_looks_and_says_that_nothing_is_held_back(scene: Scene) -> None:
    scene.folder.write_text("no folder", encoding="utf-8")
    with pytest.raises(OpsError):
        scene.run(suspected="the disk")
    done = scene.run(glass=True, suspected="the disk")
    assert not done.changed
    assert "could NOT be recorded" in done.message


def test_what_the_server_counted_is_a_finding_until_it_is_released(scene: Scene) -> None:
    turn_bytes(scene.server, DATABASE, "items", page=2)
    with pytest.raises(OpsError, match="invalid page"):
        scene.server.psql("SELECT count(*) FROM items", DATABASE)
    scene.server.psql("DROP TABLE items", DATABASE)
    deadline = time.monotonic() + 10
    while scene.server.psql("SELECT sum(checksum_failures) FROM pg_stat_database") == "0":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = scene.run()
    assert [item["kind"] for item in done.evidence["findings"]] == ["checksum"]  # type: ignore[union-attr]
    scene.run(state="released", reason="the table is gone")
    assert scene.run().evidence["suspected"] is False


def test_an_index_that_lacks_rows_is_found_although_every_checksum_is_right(scene: Scene) -> None:
    lose_index_rows(scene.server, DATABASE, "items", "items_pkey", "VALUES (5001, 'lost')")
    done = scene.run()
    (found,) = done.evidence["findings"]  # type: ignore[misc]
    assert (found["relation"], found["kind"]) == ("public.items_pkey", "index")
    assert "lacks matching index tuple" in found["text"]


def test_more_findings_are_added_to_the_evidence_and_a_lost_one_is_kept_again(scene: Scene) -> None:
    first = scene.run(suspected="the disk complains", tables=["none.*"])
    assert first.changed
    assert scene.evidence(first)["findings"] == []
    assert not scene.run(suspected="the disk complains", tables=["none.*"]).changed
    lose_index_rows(scene.server, DATABASE, "items", "items_pkey", "VALUES (5001, 'lost')")
    second = scene.run()
    assert second.changed
    kept = scene.evidence(second)
    assert kept["why"] == "the disk complains"
    assert len(kept["findings"]) == 1  # type: ignore[arg-type]
    # as a run leaves it that was killed between the hold and the evidence
    (scene.folder / str(second.evidence["evidence"])).unlink()
    third = scene.run()
    assert third.changed
    assert len(scene.evidence(third)["findings"]) == 1  # type: ignore[arg-type]
    assert len(scene.held()) == 1


def test_a_relation_that_cannot_be_read_at_all_is_said_and_the_others_are_read(scene: Scene) -> None:
    scene.server.psql(
        "CREATE MATERIALIZED VIEW later AS SELECT * FROM items WITH NO DATA;"
        "CREATE FUNCTION refuse(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE INDEX odd ON items (refuse(id));"
        "CREATE OR REPLACE FUNCTION refuse(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN RAISE 'no'; END $$",
        DATABASE,
    )
    done = scene.run()
    assert done.evidence["suspected"] is False
    assert [item["name"] for item in done.evidence["unchecked"]] == ["app: public.odd"]  # type: ignore[union-attr]
    assert done.evidence["checked"] >= 3  # type: ignore[operator]


def test_without_amcheck_tables_are_read_and_the_extension_is_named(scene: Scene) -> None:
    scene.server.psql("DROP EXTENSION amcheck", DATABASE)
    sound = scene.run()
    assert "CREATE EXTENSION amcheck" in str(sound.evidence["unchecked"])
    turn_bytes(scene.server, DATABASE, "items", page=1)
    (found,) = [one for one in scene.run().evidence["findings"] if one["relation"]]  # type: ignore[union-attr]
    assert (found["kind"], found["block"]) == ("read", 1)


def test_a_budget_that_is_over_and_a_locked_table_are_said(scene: Scene) -> None:
    assert "time for the check was over" in str(scene.run(budget="0s").evidence["unchecked"])
    with scene.server.connect(DATABASE) as held:
        held.autocommit = False
        with held.cursor() as cursor:
            cursor.execute("LOCK TABLE items")
            said = str(scene.run().evidence["unchecked"])
    assert "public.items" in said
    assert "somebody else had it locked" in said


def test_who_may_not_run_amcheck_is_told_and_nothing_is_called_sound(scene: Scene) -> None:
    scene.server.psql("CREATE ROLE reader LOGIN PASSWORD 'reader' IN ROLE pg_monitor", DATABASE)
    login = {**acts.connection(scene.server), "user": "reader", "password": "reader"}
    done = scene.run(connection=login)
    assert done.evidence["checked"] == 0
    assert "may not run amcheck" in str(done.evidence["unchecked"])
