# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One tenant alone goes back to what a set says, on real servers: rows merged, everything else untouched."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.tenants import (
    change_hard,
    changes_of,
    leftovers,
    make_hard,
    restore_tenant,
    rows_of,
    undo_of,
)

ONE = pytest.mark.parametrize("server", [18], indirect=True)
TRIGGERS = "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
GRANTS = "SELECT oid, relname, relacl, relowner FROM pg_class WHERE relnamespace = 'org_a'::regnamespace ORDER BY oid"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def hard(server: Server, database: str) -> str:
    make_hard(server, database)
    return database


def refused(server: Server, store: Path, database: str, tenant: str = "org_a", **changes: object) -> OpsError:
    """A restore that is refused, after which the tenant's rows and everything else are as before."""
    before = rows_of(server, database, tenant)
    with pytest.raises(OpsError) as caught:
        restore_tenant(server, store, database, tenant, **changes)
    assert rows_of(server, database, tenant) == before
    assert leftovers(server, database, store) == []
    return caught.value


@pytest.mark.essential
def test_every_row_of_the_tenant_comes_back_and_nothing_else_changes(server: Server, hard: str, store: Path) -> None:
    was, triggers, tables = rows_of(server, hard, "org_a"), server.psql(TRIGGERS, hard), server.psql(GRANTS, hard)
    take_backup(server, store, hard)
    change_hard(server, hard)
    others = rows_of(server, hard, "org_b")
    result = restore_tenant(server, store, hard, "org_a")
    assert result.changed
    assert rows_of(server, hard, "org_a") == was
    assert rows_of(server, hard, "org_b") == others
    assert server.psql(TRIGGERS, hard) == triggers
    assert server.psql(GRANTS, hard) == tables
    assert leftovers(server, hard, store) == []


@ONE
def test_a_second_run_finds_nothing_to_change_and_makes_no_set(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    change_hard(server, hard)
    restore_tenant(server, store, hard, "org_a")
    sets = sorted((store / "backups").iterdir())
    second = restore_tenant(server, store, hard, "org_a")
    assert not second.changed
    assert second.plan is not None
    assert second.plan.empty
    assert sorted((store / "backups").iterdir()) == sets


@ONE
def test_rows_that_are_the_same_are_not_touched(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    untouched = "SELECT string_agg(xmin::text || ctid::text, ',' ORDER BY id) FROM org_a.tree WHERE id > 3"
    before = server.psql(untouched, hard)
    server.psql("SET session_replication_role = replica; UPDATE org_a.tree SET at = 0 WHERE id = 3", hard)
    result = restore_tenant(server, store, hard, "org_a")
    assert changes_of(result)["tree"] == (0, 1, 0, 39)
    assert server.psql(untouched, hard) == before


@ONE
def test_the_way_back_leads_to_the_rows_right_before(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    change_hard(server, hard)
    # materialized views are computed anew, so they show what they should have shown
    server.psql("REFRESH MATERIALIZED VIEW org_a.totals; REFRESH MATERIALIZED VIEW org_a.grand", hard)
    server.psql("REFRESH MATERIALIZED VIEW org_a.indexed", hard)
    changed = rows_of(server, hard, "org_a")
    first = restore_tenant(server, store, hard, "org_a")
    assert rows_of(server, hard, "org_a") != changed
    restore_tenant(server, store, hard, "org_a", set=undo_of(first)["set"])
    assert rows_of(server, hard, "org_a") == changed


@ONE
def test_latest_never_takes_a_set_that_was_kept_to_go_back_to(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    change_hard(server, hard)
    first = restore_tenant(server, store, hard, "org_a")
    second = restore_tenant(server, store, hard, "org_a")
    assert second.evidence["set"] == first.evidence["set"] != undo_of(first)["set"]


@ONE
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"tenants": ["org_*"]}, id="the tenant's own set"),
        pytest.param({"schemas": ["org_a", "org_b"]}, id="a set of schemas"),
        pytest.param({"directory": True, "fingerprint": "hashes"}, id="a directory dump with hashes"),
    ],
)
def test_every_kind_of_set_can_be_restored_from(
    server: Server, hard: str, store: Path, given: dict[str, object]
) -> None:
    was = rows_of(server, hard, "org_a")
    if given.pop("directory", False):
        given["staging"] = str(store.parent)
    take_backup(server, store, hard, **given)
    change_hard(server, hard)
    restore_tenant(server, store, hard, "org_a")
    assert rows_of(server, hard, "org_a") == was


@ONE
def test_it_works_through_psql_alone(server: Server, hard: str, store: Path) -> None:
    was = rows_of(server, hard, "org_a")
    take_backup(server, store, hard)
    change_hard(server, hard)
    restore_tenant(server, store, hard, "org_a", connection=connection(server, session="psql"))
    assert rows_of(server, hard, "org_a") == was


@ONE
@pytest.mark.parametrize("schema", ['org "quoted" & é', "org\nline; DROP", "Org $1 %s {x} \\ '"])
def test_odd_names_of_a_tenant_are_names(server: Server, database: str, store: Path, schema: str) -> None:
    quoted = '"' + schema.replace('"', '""') + '"'
    server.psql(
        f"CREATE SCHEMA {quoted};"
        f'CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY, {quoted[:-1]}2" text UNIQUE);'
        f" INSERT INTO {quoted}.{quoted} SELECT n, 'v' || n FROM generate_series(1, 9) n",
        database,
    )
    was = rows_of(server, database, schema)
    take_backup(server, store, database)
    server.psql(f"DELETE FROM {quoted}.{quoted} WHERE {quoted} < 4", database)
    first = restore_tenant(server, store, database, schema)
    assert changes_of(first) == {schema: (3, 0, 0, 6)}
    assert rows_of(server, database, schema) == was
    assert schema in "".join(shlex.split(undo_of(first)["command"])).replace("\\n", "\n").replace("\\\\", "\\").replace(
        '\\"', '"'
    )
    server.psql(f"DROP SCHEMA {quoted} CASCADE", database)
    restore_tenant(server, store, database, schema)
    assert rows_of(server, database, schema) == was


@ONE
def test_check_mode_shows_both_sides_and_creates_nothing(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    change_hard(server, hard)
    before, files = rows_of(server, hard, "org_a"), sorted(store.rglob("*"))
    xid = server.psql("SELECT pg_snapshot_xmax(pg_current_snapshot())", hard)
    result = restore_tenant(server, store, hard, "org_a", check=True)
    tables = result.evidence["tables"]
    assert isinstance(tables, list)
    shown = {t["table"]: (t["in_set"], t["live"]) for t in tables}
    assert result.changed
    assert shown["left_half"] == (30, 21)
    assert shown["event"] == (80, 71)
    assert server.psql("SELECT pg_snapshot_xmax(pg_current_snapshot())", hard) == xid
    assert (rows_of(server, hard, "org_a"), sorted(store.rglob("*"))) == (before, files)
    assert leftovers(server, hard, store) == []


@ONE
def test_check_mode_knows_by_hashes_which_tables_are_equal(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard, fingerprint="hashes")
    assert not restore_tenant(server, store, hard, "org_a", check=True).changed
    server.psql("UPDATE org_a.grandchild SET id = 9999 WHERE id = 1", hard)
    result = restore_tenant(server, store, hard, "org_a", check=True)
    assert result.plan is not None
    assert [a.object for a in result.plan.actions if a.kind == "merge"] == ["org_a.grandchild"]


@ONE
def test_what_is_applied_lies_inside_what_check_mode_planned(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    change_hard(server, hard)
    planned = restore_tenant(server, store, hard, "org_a", check=True).plan
    applied = restore_tenant(server, store, hard, "org_a").plan
    assert planned is not None
    assert applied is not None
    merges = {(a.kind, a.object) for a in applied.actions if a.kind != "raise"}
    assert merges <= {(a.kind, a.object) for a in planned.actions}


@ONE
def test_sequences_are_raised_and_never_go_back(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    server.psql("SELECT setval('org_a.up', 9000), setval('org_a.down', -3)", hard)
    result = restore_tenant(server, store, hard, "org_a")
    assert server.psql("SELECT last_value FROM org_a.up", hard) == "9000"
    assert server.psql("SELECT last_value FROM org_a.down", hard) == "-50"
    assert result.evidence["sequences"] == ["down"]
    server.psql("ALTER SEQUENCE org_a.up RESTART WITH 7", hard)
    restore_tenant(server, store, hard, "org_a")
    assert server.psql("SELECT nextval('org_a.up')", hard) == "501"


@ONE
def test_the_plan_names_what_looks_at_the_tenant(server: Server, hard: str, store: Path) -> None:
    server.psql("CREATE PUBLICATION sent FOR TABLE org_a.tree", hard)
    take_backup(server, store, hard)
    result = restore_tenant(server, store, hard, "org_a", check=True)
    assert result.plan is not None
    said = "\n".join(result.plan.warnings)
    for name in ("public.all_parents", "public.counted", "sent", "guard on parent", "bare"):
        assert name in said
    assert "sleeping" not in said


ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION", "NO ACTION DEFERRABLE INITIALLY DEFERRED")


@ONE
def test_rows_that_other_schemas_refer_to_are_never_deleted_silently(server: Server, hard: str, store: Path) -> None:
    for number, action in enumerate(ACTIONS):
        server.psql(
            f"CREATE TABLE public.bills{number} (id int PRIMARY KEY,"
            f" tree_id int REFERENCES org_a.tree ON DELETE {action});"
            f"INSERT INTO public.bills{number} VALUES (1, 10)",
            hard,
        )
    take_backup(server, store, hard)
    server.psql(
        "SET session_replication_role = replica; INSERT INTO org_a.tree VALUES (900, 1, 1), (901, 1, 1);"
        + "".join(f"INSERT INTO public.bills{n} VALUES (2, 900), (3, 900), (4, 901);" for n in range(len(ACTIONS))),
        hard,
    )
    error = refused(server, store, hard)
    assert error.code == "rows_referenced"
    found = error.details["references"]
    assert isinstance(found, list)
    assert [(r["table"], r["rows"]) for r in found] == [(f"public.bills{n}", 3) for n in range(len(ACTIONS))]
    assert [r["on_delete"] for r in found] == [action.partition(" DEFERRABLE")[0] for action in ACTIONS]
    for number in range(len(ACTIONS)):
        assert server.psql(f"SELECT count(tree_id) FROM public.bills{number}", hard) == "4"
        server.psql(f"DELETE FROM public.bills{number} WHERE tree_id >= 900", hard)
    assert restore_tenant(server, store, hard, "org_a").changed
    assert server.psql("SELECT id, tree_id FROM public.bills0", hard) == "1|10"


@ONE
def test_a_changed_value_that_another_schema_refers_to_is_refused(server: Server, hard: str, store: Path) -> None:
    server.psql("CREATE TABLE public.coded (code text REFERENCES org_a.parent (code) ON UPDATE CASCADE)", hard)
    take_backup(server, store, hard)
    server.psql(
        "SET session_replication_role = replica; UPDATE org_a.parent SET code = 'renamed' WHERE id = 5;"
        "INSERT INTO public.coded VALUES ('renamed')",
        hard,
    )
    assert refused(server, store, hard).code == "rows_referenced"
    assert server.psql("SELECT code FROM public.coded", hard) == "renamed"


@ONE
def test_rows_whose_parents_in_other_schemas_are_gone_are_refused_with_the_list(
    server: Server, hard: str, store: Path
) -> None:
    take_backup(server, store, hard)
    server.psql(
        "SET session_replication_role = replica; UPDATE org_a.parent SET country = NULL WHERE country = 'fr';"
        "DELETE FROM public.countries WHERE code = 'fr'",
        hard,
    )
    error = refused(server, store, hard)
    assert error.code == "parents_missing"
    assert "20 rows" in error.cause
    assert "(fr)" in error.cause


CHANGES = (
    ("ALTER TABLE org_a.tree ADD COLUMN new int", "column tree.new is new (integer)"),
    ("ALTER TABLE org_a.tree ALTER at TYPE bigint", "column tree.at is bigint and was integer"),
    ("ALTER TABLE org_a.bare ALTER word SET NOT NULL", "column bare.word is text NOT NULL and was text"),
    ("ALTER TABLE org_a.base DROP COLUMN kind CASCADE", "column base.kind is missing (text)"),
    ("ALTER TABLE org_a.tree ADD CHECK (id > 0)", "tree has a new constraint: CHECK ((id > 0))"),
    (
        "ALTER TABLE org_a.child DROP CONSTRAINT child_parent_id_slug_key",
        "child lacks the constraint: UNIQUE (parent_id, slug)",
    ),
    ("CREATE UNIQUE INDEX ON org_a.left_half (other, id)", "left_half has a new unique index: btree (other, id)"),
    (
        "ALTER TABLE org_a.numbered DROP COLUMN twice, ADD twice int GENERATED ALWAYS AS (size * 3) STORED",
        "column numbered.twice is integer GENERATED ((size)::integer * 3)",
    ),
    (
        "DROP TABLE org_a.event_2 CASCADE; CREATE TABLE org_a.event_2 (LIKE org_a.event)",
        "partition event_2 of event is missing",
    ),
)


@ONE
def test_another_structure_is_refused_with_the_whole_list(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    server.psql("DROP TRIGGER on_parts ON org_a.event", hard)
    for change, _said in CHANGES:
        server.psql(change, hard)
    error = refused(server, store, hard)
    assert error.code == "structure_differs"
    found = error.details["differences"]
    assert isinstance(found, list)
    texts = "\n".join(item["text"] for item in found)
    assert [said for _change, said in CHANGES if said not in texts] == []


@ONE
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("CREATE TABLE org_a.added (id int)", "table added is new"),
        ("DROP TABLE org_a.grandchild", "table grandchild is missing"),
    ],
)
def test_tables_that_came_or_went_are_refused_in_check_mode_too(
    server: Server, hard: str, store: Path, change: str, said: str
) -> None:
    take_backup(server, store, hard)
    server.psql(change, hard)
    with pytest.raises(OpsError) as caught:
        restore_tenant(server, store, hard, "org_a", check=True)
    assert caught.value.code == "structure_differs"
    assert said in caught.value.cause


@ONE
def test_a_partition_or_an_index_that_came_later_does_no_harm(server: Server, hard: str, store: Path) -> None:
    was = server.psql("SELECT * FROM org_a.event ORDER BY id", hard)
    take_backup(server, store, hard)
    server.psql(
        "CREATE TABLE org_a.event_3 PARTITION OF org_a.event FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');"
        "ALTER TABLE org_a.event DISABLE TRIGGER USER; INSERT INTO org_a.event VALUES (1, '2026-03-03', 'later');"
        "ALTER TABLE org_a.event ENABLE TRIGGER USER; CREATE INDEX ON org_a.tree (at);"
        "ALTER TABLE org_a.tree ALTER at SET DEFAULT 5",
        hard,
    )
    result = restore_tenant(server, store, hard, "org_a")
    assert changes_of(result)["event"] == (0, 0, 1, 80)
    assert server.psql("SELECT * FROM org_a.event ORDER BY id", hard) == was


@ONE
@pytest.mark.parametrize(
    ("setup", "code"),
    [
        ("CREATE RULE silent AS ON DELETE TO org_a.tree DO INSTEAD NOTHING", "tenant_has_rules"),
        (
            "CREATE TABLE public.event_9 PARTITION OF org_a.event FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
            "partition_elsewhere",
        ),
        (
            "CREATE TABLE org_a.u (a int UNIQUE); CREATE TABLE org_a.v (a int REFERENCES org_a.u (a))",
            "table_without_key",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_before_anything_is_restored(
    server: Server, hard: str, store: Path, setup: str, code: str
) -> None:
    server.psql(setup, hard)
    take_backup(server, store, hard)
    assert refused(server, store, hard).code == code
    with pytest.raises(OpsError) as caught:
        restore_tenant(server, store, hard, "org_a", check=True)
    assert caught.value.code == code


@ONE
def test_a_table_without_a_key_that_refers_to_a_row_which_must_make_room_is_filled_again(
    server: Server, hard: str, store: Path
) -> None:
    server.psql(
        "CREATE TABLE org_a.log (parent_id int REFERENCES org_a.parent ON DELETE CASCADE, what text);"
        "INSERT INTO org_a.log SELECT 1 + n % 10, 'w' || n FROM generate_series(1, 40) n",
        hard,
    )
    was = rows_of(server, hard, "org_a")
    take_backup(server, store, hard)
    server.psql(
        "SET session_replication_role = replica; UPDATE org_a.parent SET code = 'x' WHERE id = 1;"
        "UPDATE org_a.parent SET code = 'code1' WHERE id = 2; UPDATE org_a.parent SET code = 'code2' WHERE id = 1",
        hard,
    )
    result = restore_tenant(server, store, hard, "org_a")
    assert changes_of(result)["parent"] == (0, 2, 0, 58)
    assert rows_of(server, hard, "org_a") == was


@ONE
def test_rows_that_point_at_lost_large_objects_are_refused(server: Server, hard: str, store: Path) -> None:
    server.psql(
        "CREATE TABLE org_a.audio (id int PRIMARY KEY, content oid);"
        "INSERT INTO org_a.audio SELECT n, lo_from_bytea(0, '\\x00') FROM generate_series(1, 3) n",
        hard,
    )
    take_backup(server, store, hard)
    server.psql("DELETE FROM org_a.audio WHERE id = 1", hard)
    assert changes_of(restore_tenant(server, store, hard, "org_a"))["audio"] == (1, 0, 0, 2)
    lost = server.psql("SELECT content FROM org_a.audio WHERE id = 2", hard)
    server.psql(f"SELECT lo_unlink({lost}); DELETE FROM org_a.audio WHERE id = 2", hard)
    error = refused(server, store, hard)
    assert error.code == "large_objects_missing"
    assert error.details["oids"] == [int(lost)]


@ONE
def test_rows_that_are_not_the_sets_after_the_changes_are_rolled_back(server: Server, hard: str, store: Path) -> None:
    # a column that is computed differently here: what was promised is not what would be committed
    server.psql(
        "CREATE FUNCTION public.place() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT current_database()::text';"
        "CREATE TABLE org_a.placed (id int PRIMARY KEY, at text GENERATED ALWAYS AS (public.place()) STORED);"
        "INSERT INTO org_a.placed SELECT generate_series(1, 5)",
        hard,
    )
    take_backup(server, store, hard)
    server.psql("DELETE FROM org_a.placed WHERE id = 1; DELETE FROM org_a.grandchild WHERE id = 5", hard)
    error = refused(server, store, hard)
    assert error.code == "tenant_mismatch"
    assert "placed" in error.cause
    assert server.psql("SELECT count(*) FROM org_a.grandchild WHERE id = 5", hard) == "0"


@ONE
def test_an_unknown_tenant_is_refused(server: Server, hard: str, store: Path) -> None:
    taken = take_backup(server, store, hard).evidence["sets"]
    assert isinstance(taken, list)
    for given in ({}, {"set": taken[0]["set"]}):
        with pytest.raises(OpsError) as caught:
            restore_tenant(server, store, hard, "org_A", **given)
        assert caught.value.code == "unknown_schema"


@ONE
def test_a_tenant_younger_than_every_set_is_refused(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    server.psql("CREATE SCHEMA org_new; CREATE TABLE org_new.t (id int PRIMARY KEY)", hard)
    assert refused(server, store, hard, "org_new").code == "unknown_schema"


@ONE
def test_without_any_set_the_store_is_named(server: Server, hard: str, store: Path) -> None:
    assert refused(server, store, hard).code == "no_backup"


@ONE
def test_an_older_set_is_found_for_a_tenant_that_newer_ones_lack(server: Server, hard: str, store: Path) -> None:
    was = rows_of(server, hard, "org_a")
    take_backup(server, store, hard)
    server.psql("DROP SCHEMA org_a CASCADE", hard)
    take_backup(server, store, hard)
    restore_tenant(server, store, hard, "org_a")
    assert rows_of(server, hard, "org_a") == was


def test_a_lost_schema_comes_back_whole(server: Server, hard: str, store: Path) -> None:
    server.psql(
        "GRANT USAGE ON SCHEMA org_a TO pg_monitor; COMMENT ON SCHEMA org_a IS 'it''s';"
        "CREATE PUBLICATION sent FOR TABLE org_a.tree;"
        "GRANT SELECT ON org_a.tree TO pg_monitor; CREATE TABLE public.bills (tree_id int REFERENCES org_a.tree)",
        hard,
    )
    was, triggers = rows_of(server, hard, "org_a"), server.psql(TRIGGERS, hard)
    facts = (
        "SELECT nspacl, obj_description(oid) FROM pg_namespace WHERE nspname = 'org_a';"
        "SELECT relname, relacl FROM pg_class WHERE relnamespace = 'org_a'::regnamespace ORDER BY 1;"
        "SELECT * FROM pg_publication_tables; SELECT last_value FROM org_a.up"
    )
    before = server.psql(facts, hard)
    take_backup(server, store, hard)
    server.psql("DROP SCHEMA org_a CASCADE", hard)
    planned = restore_tenant(server, store, hard, "org_a", check=True)
    assert server.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'org_a'", hard) == "0"
    result = restore_tenant(server, store, hard, "org_a")
    assert planned.plan is not None
    assert result.plan is not None
    assert planned.plan.envelope() == result.plan.envelope()
    assert rows_of(server, hard, "org_a") == was
    assert server.psql(TRIGGERS, hard) == triggers
    assert server.psql(facts, hard) == before
    outside = result.evidence["outside"]
    assert isinstance(outside, list)
    assert {(o["type"], o["name"]) for o in outside} >= {
        ("FK CONSTRAINT", "bills bills_tree_id_fkey"),
        ("VIEW", "all_parents"),
    }
    for item in outside:
        if item["type"] == "FK CONSTRAINT":
            server.psql(item["sql"], hard)
    assert not restore_tenant(server, store, hard, "org_a").changed
    assert leftovers(server, hard, store) == []


@ONE
def test_a_lost_schema_that_cannot_be_created_leaves_nothing(server: Server, hard: str, store: Path) -> None:
    take_backup(server, store, hard)
    server.psql("DROP SCHEMA org_a CASCADE; DELETE FROM public.countries WHERE code = 'fr'", hard)
    with pytest.raises(OpsError) as caught:
        restore_tenant(server, store, hard, "org_a")
    assert caught.value.code == "schema_not_restored"
    assert "parent_country_fkey" in caught.value.cause
    assert server.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'org_a'", hard) == "0"
    assert leftovers(server, hard, store) == []


@ONE
def test_an_operator_who_is_no_superuser_restores_and_creates(server: Server, demo_database: str, store: Path) -> None:
    server.psql(
        "CREATE ROLE operator LOGIN PASSWORD 'operator' CREATEDB; GRANT demo_owner, pg_monitor TO operator;"
        f'GRANT CONNECT ON DATABASE "{demo_database}" TO operator'
    )
    try:
        take_backup(server, store, demo_database)
        was = rows_of(server, demo_database, "org_acme")
        given = connection(server, user="operator", password="operator")
        server.psql('DELETE FROM org_acme."Activity" WHERE id < 30', demo_database)
        result = restore_tenant(server, store, demo_database, "org_acme", connection=given)
        assert changes_of(result)["Activity"][0] == 29
        server.psql("DROP VIEW won_campaigns; DROP TABLE invoices; DROP SCHEMA org_acme CASCADE", demo_database)
        restore_tenant(server, store, demo_database, "org_acme", connection=given)
        assert rows_of(server, demo_database, "org_acme") == was
    finally:
        server.psql(f'REVOKE ALL ON DATABASE "{demo_database}" FROM operator')
        server.psql("DROP OWNED BY operator; DROP ROLE operator", demo_database)


@ONE
def test_the_playbook_checks_restores_repeats_and_goes_back(server: Server, hard: str, store: Path) -> None:
    hosts = inventory(
        store.parent,
        {
            "saasops_system": "test",
            "saasops_database": hard,
            "saasops_connection": connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_restore_staging": str(store.parent),
        },
    )
    take_backup(server, store, hard)
    was = rows_of(server, hard, "org_a")
    change_hard(server, hard)
    changed = server.psql("SELECT * FROM org_a.tree ORDER BY 1", hard)
    run = play("restore_tenant", hosts, "-e", "tenant=org_a", "--check", "--diff")
    assert (run.code, run.changed) == (0, 1), run.output
    assert "merge org_a.left_half" in run.output
    run = play("restore_tenant", hosts, "-e", "tenant=org_a")
    assert (run.code, run.changed) == (0, 1), run.output
    assert rows_of(server, hard, "org_a") == was
    way_back = run.output.partition("To go back: ansible-playbook saasops.runbook.restore_tenant ")[2].split('"')[0]
    run = play("restore_tenant", hosts, "-e", "tenant=org_a")
    assert (run.code, run.changed) == (0, 0), run.output
    run = play("restore_tenant", hosts, *shlex.split(way_back))
    assert (run.code, run.changed) == (0, 1), run.output
    assert server.psql("SELECT * FROM org_a.tree ORDER BY 1", hard) == changed
    assert server.password not in run.output
    run = play("restore_tenant", hosts)
    assert run.code != 0
    assert "not_configured" in run.output
