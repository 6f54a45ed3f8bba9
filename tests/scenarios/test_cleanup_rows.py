# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows a cleanup takes, which it leaves alone, and what it refuses, on real servers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import backup_prune, purge
from ansible_collections.saasops.runbook.plugins.module_utils.module import Unguarded
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, podcastflow, rows
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [15], indirect=True)
COUNT = "SELECT count(*) FROM org_a.events"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


@pytest.fixture
def filled(server: Server, database: str) -> str:
    rows.make(server, database)
    return database


class Between(Unguarded):
    """Does something once, between the archive of the first batch and its deletion."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act

    def confirm(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()


def clean_with(server: Server, store: Path, database: str, act: Callable[[], object], **changes: object) -> object:
    context = replace(acts.context(), admission=Between(act))
    parameters = {"rules": [rows.rule(**changes)]}
    return purge.execute(acts.parameters(server, store, database, parameters), context).evidence["rules"]


@pytest.mark.parametrize("session", ["psycopg", "psql"])
def test_every_type_comes_back_bit_for_bit_over_both_kinds_of_session(
    server: Server, filled: str, store: Path, session: str
) -> None:
    before = rows.picture(server, filled)
    connection = acts.connection(server, session=session)
    done = rows.clean(server, store, filled, connection=connection)
    assert server.psql(COUNT, filled) == str(rows.ROWS - rows.OLD)
    back = rows.put_back(server, store, filled, done.evidence["archives"], connection=connection)
    assert back.changed
    assert rows.picture(server, filled) == before
    assert server.psql("SELECT last_value FROM org_a.events_id_seq", filled) == str(rows.ROWS)


REFUSED = [
    ("", {"children": []}, "reference_not_archived", "CASCADE"),
    ("", {"children": [{"table": "clicks"}]}, "reference_not_archived", "SET NULL"),
    ("DROP INDEX org_a.marks_event_no_idx", {}, "foreign_key_unindexed", "org_a.marks_event_no_idx -e state=present"),
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"
        "CREATE TRIGGER other AFTER DELETE ON org_a.events FOR EACH ROW EXECUTE FUNCTION f()",
        {},
        "triggers",
        "other",
    ),
    ("CREATE RULE r AS ON DELETE TO org_a.events DO ALSO NOTIFY x", {}, "rewrite_rules", "r"),
    ("ALTER TABLE org_a.marks DROP CONSTRAINT marks_pkey", {}, "no_key", "org_a.marks"),
    ("CREATE TABLE org_a.more () INHERITS (org_a.events)", {}, "inherited_table", "org_a.events"),
    ("CREATE VIEW org_a.v AS SELECT * FROM org_a.events", {"table": "v", "children": []}, "not_a_table", "org_a.v"),
    ("", {"age_column": "note"}, "age_column", "text"),
    ("", {"key": ["note"]}, "no_key", "note"),
    ("", {"table": "nothing", "children": []}, "unknown_table", "nothing"),
    ("", {"schemas": ["team_*"]}, "unknown_schema", "team_*"),
    (
        "",
        {"children": [{"table": "clicks", "children": [{"table": "marks", "columns": ["id"]}]}]},
        "reference_unknown",
        "columns",
    ),
]


@ONE
@pytest.mark.parametrize(("prepared", "changes", "code", "says"), REFUSED)
def test_what_cannot_be_archived_whole_is_refused_and_nothing_is_deleted(
    server: Server, filled: str, store: Path, prepared: str, changes: dict[str, object], code: str, says: str
) -> None:
    server.psql(prepared, filled)
    before = rows.picture(server, filled)
    for check in (True, False):
        with pytest.raises(OpsError) as caught:
            rows.clean(server, store, filled, check=check, rules=[rows.rule(**changes)])
        assert caught.value.code == code
        assert says in caught.value.message
    assert rows.picture(server, filled) == before


@ONE
def test_row_security_that_hides_rows_and_missing_rights_are_refused(server: Server, filled: str, store: Path) -> None:
    server.psql(
        "CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA org_a TO reader;"
        "GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA org_a TO reader",
        filled,
    )
    reader = acts.connection(server, user="reader", password="reader")
    try:
        with pytest.raises(OpsError) as caught:
            rows.clean(server, store, filled, connection=reader)
        assert caught.value.code == "not_permitted"
        assert "GRANT UPDATE ON org_a.events" in caught.value.message
        server.psql(
            "GRANT UPDATE ON ALL TABLES IN SCHEMA org_a TO reader;"
            "ALTER TABLE org_a.events ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY half ON org_a.events USING (id % 2 = 0)",
            filled,
        )
        with pytest.raises(OpsError) as caught:
            rows.clean(server, store, filled, connection=reader)
        assert caught.value.code == "row_security"
    finally:
        server.psql("DROP OWNED BY reader; DROP ROLE reader", filled)


BETWEEN = [
    ("a row that was changed", "UPDATE org_a.events SET note = 'changed' WHERE id = 300", "300"),
    ("a row that got a child", "INSERT INTO org_a.clicks VALUES (301, 9, 'new')", "301"),
    ("a row whose child was changed", "UPDATE org_a.clicks SET what = 'changed' WHERE event = 303 AND no = 1", "303"),
    ("a row whose child's child was changed", "UPDATE org_a.marks SET note = 'changed' WHERE event = 306", "306"),
    ("a row whose child was deleted", "DELETE FROM org_a.clicks WHERE event = 303 AND no = 2", "303"),
]


@ONE
@pytest.mark.parametrize(("_what", "statement", "row"), BETWEEN, ids=[item[0] for item in BETWEEN])
def test_what_changes_between_archive_and_delete_is_kept_as_it_is_now_and_the_rest_goes(
    server: Server, filled: str, store: Path, _what: str, statement: str, row: str
) -> None:
    changed: list[str] = []

    def meddle() -> None:
        server.psql(statement, filled)
        changed.append(rows.picture(server, filled))

    (told,) = cast("list[dict[str, object]]", clean_with(server, store, filled, meddle))
    assert told["kept"] == 1
    assert server.psql("SELECT id FROM org_a.events WHERE at < now() - interval '90 days'", filled) == row
    rows.put_back(server, store, filled, [str(told["archive"])])
    assert rows.picture(server, filled) == changed[0]


@ONE
def test_a_row_that_the_application_deletes_between_archive_and_delete_does_not_come_back(
    server: Server, filled: str, store: Path
) -> None:
    told = clean_with(server, store, filled, lambda: server.psql("DELETE FROM org_a.events WHERE id = 300", filled))
    (rule,) = cast("list[dict[str, object]]", told)
    rows.put_back(server, store, filled, [str(rule["archive"])])
    assert server.psql(f"{COUNT} WHERE id = 300", filled) == "0"
    assert server.psql(COUNT, filled) == str(rows.ROWS - 1)


@ONE
def test_a_locked_row_is_kept_without_waiting_for_it(server: Server, filled: str, store: Path) -> None:
    with server.connect(filled) as holder:
        holder.autocommit = False
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM org_a.events WHERE id = 300 FOR KEY SHARE")
            began = time.monotonic()
            done = rows.clean(server, store, filled)
            assert time.monotonic() - began < 30
    holder.close()
    assert cast("list[dict[str, object]]", done.evidence["rules"])[0]["kept"] == 1
    assert server.psql(COUNT, filled) == str(rows.ROWS - rows.OLD + 1)


@ONE
def test_a_row_that_others_refer_to_without_an_action_stays_and_is_counted(
    server: Server, filled: str, store: Path
) -> None:
    server.psql(
        "CREATE TABLE org_a.keeps (event bigint REFERENCES org_a.events); CREATE INDEX ON org_a.keeps (event);"
        "INSERT INTO org_a.keeps VALUES (300), (301), (3)",
        filled,
    )
    checked = rows.clean(server, store, filled, check=True)
    assert checked.plan is not None
    assert checked.plan.actions[0].measured["rows"] == rows.OLD - 2
    assert checked.plan.actions[0].measured["kept because others refer to them"] == 2
    rows.clean(server, store, filled)
    assert server.psql(f"{COUNT} WHERE id IN (300, 301)", filled) == "2"
    assert server.psql(COUNT, filled) == str(rows.ROWS - rows.OLD + 2)


@ONE
def test_check_mode_counts_exactly_what_is_then_deleted_and_says_when_it_could_not_count(
    server: Server, filled: str, store: Path
) -> None:
    rule = rows.rule(where="t.flag OR length(t.note) > 3")
    checked = rows.clean(server, store, filled, check=True, rules=[rule])
    done = rows.clean(server, store, filled, rules=[rule])
    assert checked.plan is not None
    deleted = cast("list[dict[str, object]]", done.evidence["rules"])[0]["rows"]
    assert deleted == checked.plan.actions[0].measured["rows"]
    assert 0 < cast("int", deleted) < rows.OLD
    slow = rows.rule(where="t.flag OR pg_sleep(0.05) IS NULL")
    guess = rows.clean(server, store, filled, check=True, rules=[slow], count_seconds=1)
    assert guess.plan is not None
    assert "took too long" in str(guess.plan.actions[0].measured["counted"])


@ONE
def test_the_limit_bounds_rows_and_what_refers_to_them_and_the_next_run_goes_on(
    server: Server, filled: str, store: Path
) -> None:
    before = rows.picture(server, filled)
    made: list[str] = []
    while True:
        done = rows.clean(server, store, filled, rules=[rows.rule(limit=100, batch_rows=30)])
        if not done.changed:
            break
        (told,) = cast("list[dict[str, int]]", done.evidence["rules"])
        assert told["rows"] + told["children"] <= 100
        made += cast("list[str]", done.evidence["archives"])
    assert server.psql(COUNT, filled) == str(rows.ROWS - rows.OLD)
    assert len(made) > 4
    rows.put_back(server, store, filled, made)
    assert rows.picture(server, filled) == before


@ONE
def test_the_same_key_acts_once(server: Server, filled: str, store: Path) -> None:
    assert rows.clean(server, store, filled, key="november").changed
    server.psql("INSERT INTO org_a.events (at) VALUES ('2020-01-01')", filled)
    assert not rows.clean(server, store, filled, key="november").changed
    assert rows.clean(server, store, filled, key="december").changed


@ONE
def test_a_conflicting_row_is_named_and_nothing_is_put_back(server: Server, filled: str, store: Path) -> None:
    done = rows.clean(server, store, filled)
    server.psql("INSERT INTO org_a.events (id, at, note) OVERRIDING SYSTEM VALUE VALUES (300, now(), 'mine')", filled)
    before = rows.picture(server, filled)
    with pytest.raises(OpsError) as caught:
        rows.put_back(server, store, filled, done.evidence["archives"])
    assert caught.value.code == "rows_in_the_way"
    assert "300" in caught.value.message
    assert rows.picture(server, filled) == before


@ONE
def test_columns_that_came_or_went_since_are_filled_or_refused(server: Server, filled: str, store: Path) -> None:
    was = server.psql("COPY (SELECT id, at, note FROM org_a.events ORDER BY id) TO STDOUT", filled)
    done = rows.clean(server, store, filled)
    server.psql("ALTER TABLE org_a.events ADD colour text DEFAULT 'red'", filled)
    rows.put_back(server, store, filled, done.evidence["archives"])
    assert server.psql("COPY (SELECT id, at, note FROM org_a.events ORDER BY id) TO STDOUT", filled) == was
    again = rows.clean(server, store, filled)
    server.psql("ALTER TABLE org_a.events DROP ratio", filled)
    with pytest.raises(OpsError) as caught:
        rows.put_back(server, store, filled, again.evidence["archives"])
    assert caught.value.code == "column_gone"
    assert "ratio" in caught.value.message


@ONE
def test_a_damaged_archive_is_not_put_back(server: Server, filled: str, store: Path) -> None:
    done = rows.clean(server, store, filled)
    (part, *_more) = sorted(store.glob("archives/*/rows/*"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(OpsError) as caught:
        rows.put_back(server, store, filled, done.evidence["archives"])
    assert caught.value.code == "archive_damaged"
    assert server.psql(COUNT, filled) == str(rows.ROWS - rows.OLD)


@ONE
def test_the_shipped_rules_of_podcastflow_take_old_decisions_and_lost_reservations_and_no_live_one(
    server: Server, database: str, store: Path
) -> None:
    podcastflow.make(server, database)
    rules = podcastflow.shipped("cleanup.yml", "saasops_purge_rules")
    before = [rows.picture(server, database, schema, podcastflow.TABLES) for schema in ("org_a", "org_b")]
    done = rows.clean(server, store, database, rules=rules, tenant_schemas=["org_*"])
    for tenant in ("a", "b"):
        left = server.psql(f'SELECT id FROM org_{tenant}."InventoryReservation" ORDER BY id', database)
        assert left.split() == [f"{tenant}-{name}" for name in ("asked", "kept", "live", "stuck")]
        left = server.psql(f'SELECT id FROM org_{tenant}."CampaignApproval" ORDER BY id', database)
        assert left.split() == [f"{tenant}-a{number}" for number in range(1, 6)]
    wide = [item for item in cast("list[dict[str, object]]", done.evidence["tables"]) if item["report_only"]]
    assert [item["rows"] for item in wide] == [3, 3], "rows that the widest definition would have taken"
    rows.put_back(server, store, database, done.evidence["archives"])
    assert [rows.picture(server, database, schema, podcastflow.TABLES) for schema in ("org_a", "org_b")] == before


@ONE
@pytest.mark.parametrize(("age", "goes"), [("90 days 1 minute", True), ("89 days 23 hours 59 minutes", False)])
def test_ninety_days_are_counted_to_the_minute(
    server: Server, database: str, store: Path, age: str, goes: bool
) -> None:
    podcastflow.make(server, database, ["a"])
    old = f"(now() - interval '{age}') AT TIME ZONE 'UTC'"
    server.psql('DELETE FROM org_a."CampaignApproval"', database)
    server.psql(f"""INSERT INTO org_a."CampaignApproval" VALUES ('x', 'a-won', 'approved', {old}, {old})""", database)
    rules = podcastflow.shipped("cleanup.yml", "saasops_purge_rules")
    rows.clean(server, store, database, rules=rules, rule=["approvals"], tenant_schemas=["org_*"])
    assert server.psql('SELECT count(*) FROM org_a."CampaignApproval"', database) == ("0" if goes else "1")


@ONE
def test_five_hundred_tenants_are_cleaned_in_one_call(server: Server, database: str, store: Path) -> None:
    server.psql(
        "SELECT format('CREATE SCHEMA org_%1$s; CREATE TABLE org_%1$s.e (id int PRIMARY KEY, at timestamptz);"
        " INSERT INTO org_%1$s.e SELECT i, now() - i * interval ''1 day'' + interval ''1 hour''"
        " FROM generate_series(1, 101 + %1$s %% 2) i', i) FROM generate_series(1, 500) i \\gexec",
        database,
    )
    began = time.monotonic()
    rule = rows.rule(table="e", older_than="100d", children=[], limit=10000)
    done = rows.clean(server, store, database, rules=[rule])
    took = time.monotonic() - began
    (told,) = cast("list[dict[str, object]]", done.evidence["rules"])
    assert (told["rows"], told["batches"]) == (750, 500)
    assert took < 150
    (action,) = done.plan.actions if done.plan else ()
    assert action.measured["tables"] == 500


@ONE
def test_traffic_on_the_table_never_waits_longer_than_the_limit_of_a_batch(
    server: Server, filled: str, store: Path
) -> None:
    slowest = 0.0
    stop = threading.Event()

    def traffic() -> None:
        nonlocal slowest
        with server.connect(filled) as client, client.cursor() as cursor:
            while not stop.is_set():
                began = time.monotonic()
                cursor.execute("UPDATE org_a.events SET note = 'traffic' WHERE id = 390")
                cursor.execute("INSERT INTO org_a.clicks SELECT 391, coalesce(max(no), 0) + 1 FROM org_a.clicks")
                slowest = max(slowest, time.monotonic() - began)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        done = rows.clean(server, store, filled, rules=[rows.rule(batch_rows=20)])
    finally:
        stop.set()
        thread.join()
    assert cast("list[dict[str, float]]", done.evidence["rules"])[0]["batches_over_limit"] == 0
    assert slowest < 8


@ONE
def test_whatever_the_rows_batches_and_changes_are_each_row_is_deleted_or_kept_and_all_come_back(
    server: Server, database: str, tmp_path: Path
) -> None:
    server.psql(
        "CREATE SCHEMA org_a; CREATE TABLE org_a.p (id int PRIMARY KEY, old boolean, v int);"
        "CREATE TABLE org_a.c (id int PRIMARY KEY, p int NOT NULL REFERENCES org_a.p ON DELETE CASCADE);"
        "CREATE INDEX ON org_a.c (p)",
        database,
    )
    numbers = itertools.count()

    @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.booleans(), max_size=60),
        st.lists(st.integers(0, 59), max_size=60),
        st.integers(1, 25),
        st.sets(st.integers(0, 59), max_size=8),
    )
    def hold(old: list[bool], children: list[int], batch: int, touched: set[int]) -> None:
        (store := tmp_path / str(next(numbers))).mkdir()
        server.psql(
            "TRUNCATE org_a.p, org_a.c;"
            + "".join(f"INSERT INTO org_a.p VALUES ({n}, {flag}, 0);" for n, flag in enumerate(old))
            + "".join(f"INSERT INTO org_a.c VALUES ({n}, {p});" for n, p in enumerate(children) if p < len(old)),
            database,
        )
        rule = {
            "name": "p",
            "table": "p",
            "schemas": ["org_a"],
            "where": "old",
            "batch_rows": batch,
            "children": [{"table": "c"}],
        }
        ids = ", ".join(str(n) for n in touched) or "-1"
        context = replace(
            acts.context(),
            admission=Between(lambda: server.psql(f"UPDATE org_a.p SET v = 1 WHERE id IN ({ids})", database)),
        )
        expected = {n for n, flag in enumerate(old) if flag}
        result = purge.execute(acts.parameters(server, store, database, {"rules": [rule]}), context)
        if not expected:
            assert not result.changed
            return
        left = {int(n) for n in server.psql("SELECT id FROM org_a.p", database).split()}
        archived = [
            row[0]
            for path in sorted(store.glob("archives/*/rows/*"))
            for part in archives.get(PosixStore(str(store)), path.parts[-3], f"rows/{path.name}")[0].parts
            if part.table == "p"
            for row in part.rows
        ]
        gone = set(range(len(old))) - left
        assert sorted(int(str(n)) for n in archived) == sorted(gone), "each one once, and exactly those that are gone"
        assert gone <= expected
        assert expected - gone <= touched, "nothing stays but what was changed meanwhile"
        if result.evidence["archives"]:
            rows.put_back(server, store, database, result.evidence["archives"])
        assert server.psql("SELECT count(*) FROM org_a.p", database) == str(len(old))
        assert server.psql("SELECT count(*) FROM org_a.c", database) == str(sum(p < len(old) for p in children))

    hold()


@ONE
def test_prune_deletes_an_archive_when_its_time_is_over_and_not_before(
    server: Server, filled: str, store: Path
) -> None:
    kept = rows.clean(server, store, filled, rules=[rows.rule(limit=50)]).evidence["archives"]
    short = rows.clean(server, store, filled, rules=[rows.rule(limit=50, keep_archive="1h")]).evidence["archives"]
    assert isinstance(kept, list)
    assert isinstance(short, list)
    parameters = acts.parameters(server, store, filled, {"retention": {"daily": 3}})
    context = acts.context()
    assert not backup_prune.execute(parameters, context).changed
    later = replace(context, now=context.now + 3700)
    assert backup_prune.execute(parameters, replace(later, check_mode=True)).evidence["deleted_archives"] == short
    assert backup_prune.execute(parameters, later).changed
    assert archives.ids(PosixStore(str(store))) == kept
