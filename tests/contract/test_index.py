# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes on real servers: compared as the server understands them, built, replaced, repaired, dropped, undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab.acts import make_indexes
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15, 18], indirect=True)
Entry = dict[str, object]
Make = Callable[..., Result]

TABLE = """
CREATE EXTENSION pg_trgm;
CREATE FUNCTION public.plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE TABLE people (
    id int PRIMARY KEY, email varchar(90), name text, "Odd Name" text COLLATE "C", at timestamptz DEFAULT now(),
    state text DEFAULT 'on', gone int, tags text[], n int);
INSERT INTO people (id, email, name, n) SELECT i, 'p' || i, 'n' || i % 10, i % 100 FROM generate_series(1, 2000) i;
ALTER TABLE people DROP COLUMN gone;
ANALYZE people;
"""
INVALID = "SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)"
NAMES = "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
TEXTS = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname <> 'people_pkey' ORDER BY 1"


@pytest.fixture
def people(server: Server, database: str) -> str:
    server.psql(TABLE, database)
    return database


@pytest.fixture
def make(server: Server, people: str) -> Iterator[Make]:
    def act(*entries: Entry, **options: object) -> Result:
        return make_indexes(server, people, list(entries), **options)  # type: ignore[arg-type]

    yield act
    if server.is_running:
        assert server.psql("SELECT count(*) FROM pg_class WHERE relname LIKE 'saasops%'", people) == "0"


def entry(*columns: object, **more: object) -> Entry:
    return {"name": "i", "table": "people", "columns": list(columns), **more}


def refused(call: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as found:
        call()
    return found.value


SAME = [
    ("(email)", entry("email")),
    ("(lower(email))", entry({"expression": "lower((email)::text)"})),
    ("(lower((email)::text))", entry({"expression": "lower( people.email )"})),
    ("(name text_ops)", entry("name")),
    ("(name)", entry({"name": "name", "opclass": "text_ops"})),
    ("(name)", entry({"name": "name", "opclass": "pg_catalog.text_ops", "order": "asc", "nulls": "last"})),
    ('("Odd Name")', entry({"name": "Odd Name", "collation": "C"})),
    ("(at DESC)", entry({"name": "at", "order": "desc", "nulls": "first"})),
    ("(email) WHERE state = 'on' AND n > 3", entry("email", where="state='on'::text and (n > 3)")),
    ("(email) WHERE n IN (1, 2)", entry("email", where="n = ANY (ARRAY[1, 2])")),
    ("(plain(name))", entry({"expression": "public.plain(name)"})),
    ("(id) INCLUDE (name, email)", entry("id", include=["name", "email"])),
    ("USING gin (tags)", entry("tags", method="gin")),
    ("USING gin (name gin_trgm_ops)", entry({"name": "name", "opclass": "public.gin_trgm_ops"}, method="gin")),
    (
        "USING gist (name gist_trgm_ops (siglen = 32))",
        entry({"name": "name", "opclass": "gist_trgm_ops", "opclass_options": {"siglen": 32}}, method="gist"),
    ),
    ("(n) WITH (fillfactor = 70)", entry("n")),
    (
        "(n) WITH (deduplicate_items = off, fillfactor = 70)",
        entry("n", **{"with": {"deduplicate_items": False, "fillfactor": 70}}),
    ),
    ("(n, id)", entry({"expression": "(n)"}, "id", tablespace="")),
]


def on(there: str, name: str) -> str:
    """CREATE INDEX in a person's words."""
    return f"CREATE INDEX {name} ON people {there if there.startswith('USING') else f'USING btree {there}'}"


def numbered(entries: Sequence[Entry]) -> list[Entry]:
    return [{**one, "name": f"i{number}"} for number, one in enumerate(entries)]


def test_another_spelling_of_the_same_index_builds_nothing(server: Server, people: str, make: Make) -> None:
    server.psql("; ".join(on(there, f"i{number}") for number, (there, _wanted) in enumerate(SAME)), people)
    files = "SELECT string_agg(relfilenode::text, ',' ORDER BY relname) FROM pg_class WHERE relkind = 'i'"
    before = server.psql(files, people)
    for check in (True, False):
        result = make(*numbered([wanted for _there, wanted in SAME]), check=check)
        assert (result.changed, result.plan and result.plan.actions) == (False, ())
        assert len(cast("list[str]", result.evidence["notes"])) == len(SAME)
    assert server.psql(files, people) == before


DIFFERENT = [
    ("(email)", entry("name"), "the key is email instead of name"),
    ("(email, name)", entry("name", "email"), "the key"),
    ("(at)", entry({"name": "at", "order": "desc"}), "the order of at is ASC NULLS LAST instead of DESC NULLS FIRST"),
    ("(name)", entry({"name": "name", "opclass": "text_pattern_ops"}), "the operator class of name"),
    ("(name)", entry({"name": "name", "collation": "C"}), "the collation of name"),
    ("(email) WHERE n > 3", entry("email", where="n > 4"), "the condition is (n > 3) instead of (n > 4)"),
    ("(email)", entry("email", unique=True), "unique is no instead of yes"),
    ("(id)", entry("id", include=["name"]), "included"),
    ("(n) WITH (fillfactor = 70)", entry("n", **{"with": {"fillfactor": 80}}), "WITH is fillfactor=70"),
    ("USING hash (n)", entry("n"), "the method is hash instead of btree"),
    ("(lower(name))", entry({"expression": "plain(name)"}), "the key is lower(name) instead of public.plain(name)"),
]


def test_another_index_under_the_name_is_refused_and_replaced_when_asked_for(
    server: Server, people: str, make: Make
) -> None:
    server.psql("; ".join(on(there, f"i{number}") for number, (there, _wanted, _said) in enumerate(DIFFERENT)), people)
    wanted = numbered([entry for _there, entry, _said in DIFFERENT])
    before = server.psql(TEXTS, people)
    for check in (True, False):
        error = refused(lambda check=check: make(*wanted, check=check))  # type: ignore[misc]
        assert error.code == "index_differs"
        for number, (_there, _entry, said) in enumerate(DIFFERENT):
            assert f"public.i{number} is another index: " in error.cause
            assert said in error.cause
    assert server.psql(TEXTS, people) == before
    result = make(*wanted, replace=True)
    assert result.plan
    assert {action.kind for action in result.plan.actions} == {"replace"}
    after = server.psql(TEXTS, people)
    assert not set(after.splitlines()) & set(before.splitlines())
    assert not make(*wanted).changed
    assert server.psql("SELECT count(*) FROM pg_indexes WHERE tablename = 'people'", people) == str(len(DIFFERENT) + 1)
    undone = make(*undo_of(result))
    assert undone.changed
    assert server.psql(TEXTS, people) == before


def undo_of(result: Result) -> list[Entry]:
    assert result.undo["verb"] == "index"
    return cast("list[Entry]", result.undo["indexes"])


def test_what_was_dropped_comes_back_exactly_and_what_was_made_goes(server: Server, people: str, make: Make) -> None:
    # of two that are the same the second would be said, and not built
    words = dict.fromkeys(there.replace(" text_ops", "").replace("(email)::text", "email") for there, _wanted in SAME)
    server.psql("; ".join(on(there, f"i{number}") for number, there in enumerate(words)), people)
    before = server.psql(TEXTS, people)
    dropped = make(*({"name": f"i{number}", "state": "absent"} for number in range(len(words))))
    assert server.psql(TEXTS, people) == ""
    back = make(*undo_of(dropped))
    assert server.psql(TEXTS, people) == before
    make(*undo_of(back))
    assert server.psql(TEXTS, people) == ""


def test_the_same_index_under_another_name_is_said_and_nothing_is_built(
    server: Server, people: str, make: Make
) -> None:
    server.psql("CREATE INDEX other ON people (lower(email))", people)
    result = make(entry({"expression": "lower(email::text)"}))
    assert not result.changed
    assert "there as public.other" in result.message
    twice = make(entry("n"), {**entry("n"), "name": "second"})
    assert server.psql(NAMES, people).split() == ["i", "other", "people_pkey"]
    assert "public.second is there as public.i" in twice.message.replace("Public", "public")


def test_a_wish_that_the_server_refuses_changes_nothing_and_says_why(server: Server, people: str, make: Make) -> None:
    for wanted, said in (
        (entry("nothing"), "nothing"),
        (entry({"expression": "now()"}), "IMMUTABLE"),
        (entry("n", method="nothing"), "nothing"),
        (entry({"expression": "n); DROP TABLE people; --"}), "syntax error"),
        (entry({"expression": "n)); COMMIT; DROP TABLE people; --"}), "transaction"),
    ):
        error = refused(lambda wanted=wanted: make(wanted))  # type: ignore[misc]
        assert error.code == "bad_index"
        assert said in error.cause
    # what somebody hid in an expression is rolled back with the copy
    make(entry({"expression": "n)); CREATE TABLE stays (); --"}))
    assert server.psql("SELECT count(*) FROM people", people) == "2000"
    assert server.psql("SELECT to_regclass('stays') IS NULL", people) == "t"


def test_an_invalid_index_is_repaired_and_leftovers_of_reindex_are_removed(
    server: Server, people: str, make: Make
) -> None:
    server.psql(
        "CREATE INDEX i ON people (n); CREATE INDEX other ON people (n, id);"
        "CREATE INDEX other_ccnew ON people (n, id);"
        "CREATE INDEX other_ccold1 ON people (n, id); CREATE INDEX mine_ccnew ON people (id, n);"
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid IN"
        " ('i'::regclass, 'other_ccnew'::regclass, 'other_ccold1'::regclass)",
        people,
    )
    planned = make(entry("n"), check=True)
    assert planned.plan
    assert [(action.kind, action.object) for action in planned.plan.actions] == [
        ("repair", "public.i"),
        ("clean", "public.other_ccnew"),
        ("clean", "public.other_ccold1"),
    ]
    done = make(entry("n"))
    assert "repaired: public.i" in done.message
    assert "REINDEX CONCURRENTLY" in done.message
    assert server.psql(INVALID, people) == "0"
    # a valid one of such a name is somebody's own
    assert server.psql(NAMES, people).split() == ["i", "mine_ccnew", "other", "people_pkey"]
    assert not make(entry("n")).changed


def test_a_unique_index_names_the_duplicate_keys_before_it_is_begun(server: Server, people: str, make: Make) -> None:
    server.psql(
        "UPDATE people SET email = 'P7' WHERE id IN (1, 2); UPDATE people SET email = NULL WHERE id IN (3, 4)", people
    )
    wanted = entry({"expression": "lower(email)"}, unique=True)
    for check in (True, False):
        error = refused(lambda check=check: make(wanted, check=check))  # type: ignore[misc]
        assert error.code == "duplicate_keys"
        assert "(lower((email)::text)) = (p7) 3 times" in error.cause
        assert "NULL" not in error.cause
    assert server.psql(TEXTS, people) == ""
    assert make(entry({"expression": "lower(email)"}, unique=True, where="id > 10")).changed


def test_nulls_that_are_not_distinct_are_duplicates_of_each_other(server: Server, people: str, make: Make) -> None:
    server.psql("UPDATE people SET email = NULL WHERE id IN (3, 4)", people)
    error = refused(lambda: make(entry("email", unique=True, nulls_not_distinct=True)))
    assert "(email) = (NULL) 2 times" in error.cause
    server.psql("DELETE FROM people WHERE id = 3", people)
    assert make(entry("email", unique=True, nulls_not_distinct=True)).changed
    assert "NULLS NOT DISTINCT" in server.psql(TEXTS, people)
    assert not make(entry("email", unique=True, nulls_not_distinct=True)).changed


def test_what_an_index_carries_keeps_it_from_being_dropped(server: Server, people: str, make: Make) -> None:
    server.psql(
        "ALTER TABLE people ADD UNIQUE (name, id); ALTER TABLE people ALTER n SET NOT NULL;"
        "CREATE UNIQUE INDEX identity ON people (n, id); ALTER TABLE people REPLICA IDENTITY USING INDEX identity;"
        "CREATE UNIQUE INDEX referenced ON people (id, email); CREATE TABLE child (id int, mail varchar,"
        " boss int REFERENCES people (id), FOREIGN KEY (id, mail) REFERENCES people (id, email));"
        "CREATE INDEX boss ON child (boss, id); CREATE INDEX pair ON child (mail, id)",
        people,
    )
    for name, code in (
        ("people_pkey", "index_of_constraint"),
        ("people_name_id_key", "index_of_constraint"),
        ("identity", "index_is_replica_identity"),
        ("referenced", "index_is_referenced"),
        ("boss", "index_of_foreign_key"),
        ("pair", "index_of_foreign_key"),
    ):
        before = server.psql(NAMES, people)
        for check in (True, False):
            error = refused(lambda name=name, check=check: make(name=name, state="absent", check=check))  # type: ignore[misc]
            assert (error.code, name in error.cause) == (code, True)
        assert server.psql(NAMES, people) == before
    server.psql("CREATE INDEX boss_too ON child (boss)", people)
    assert make(name="boss", state="absent").changed
    accepted = make(name="pair", state="absent", acknowledge=["index_of_foreign_key"])
    assert accepted.changed


def test_dropping_a_unique_index_warns_of_on_conflict_and_tells_how_often_it_was_used(
    server: Server, people: str, make: Make
) -> None:
    server.psql("CREATE UNIQUE INDEX arbiter ON people (email)", people)
    result = make(name="arbiter", state="absent", check=True)
    assert result.plan
    assert any("ON CONFLICT" in line for line in result.plan.warnings)


def test_an_absent_entry_with_a_definition_drops_that_index_only(server: Server, people: str, make: Make) -> None:
    result = make(entry("n"))
    (gone,) = undo_of(result)
    server.psql("DROP INDEX i; CREATE INDEX i ON people (n, id)", people)
    error = refused(lambda: make(gone))
    assert error.code == "index_differs"
    assert server.psql(NAMES, people).split() == ["i", "people_pkey"]


PARTITIONED = """
CREATE TABLE events (at date, kind int, note text) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (kind);
CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES IN (1);
CREATE TABLE events_2b PARTITION OF events_2 DEFAULT;
INSERT INTO events SELECT '2026-01-15'::date + i % 40, i % 3, 'x' FROM generate_series(1, 1000) i;
"""
EVENTS: Entry = {"name": "events_kind", "table": "events", "columns": ["kind", "at"]}
EVERYWHERE = (
    "SELECT count(*) FROM pg_partition_tree('events') t JOIN pg_index i ON i.indrelid = t.relid WHERE i.indisvalid"
)


def test_a_partitioned_table_gets_one_index_whose_parts_are_built_concurrently(
    server: Server, people: str, make: Make
) -> None:
    server.psql(PARTITIONED, people)
    result = make(EVENTS)
    assert result.plan
    assert [action.object for action in result.plan.actions] == ["public.events_kind"]
    assert server.psql(EVERYWHERE, people) == "5"
    assert server.psql(INVALID, people) == "0"
    assert not make(EVENTS).changed
    server.psql("CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')", people)
    assert server.psql(EVERYWHERE, people) == "6"
    assert refused(lambda: make(name="events_kind_events_1", state="absent")).code == "index_of_partition"
    gone = make(*undo_of(result))
    assert gone.changed
    assert server.psql(EVERYWHERE, people) == "0"


def test_a_partitioned_index_that_lacks_parts_is_completed_and_fitting_indexes_of_parts_are_taken(
    server: Server, people: str, make: Make
) -> None:
    server.psql(
        PARTITIONED + "CREATE INDEX events_kind ON ONLY events (kind, at); CREATE INDEX mine ON events_1 (kind, at);"
        "CREATE INDEX events_kind_events_2a ON events_2a (kind, at);",
        people,
    )
    result = make(EVENTS)
    assert [action.kind for action in result.plan.actions if result.plan] == ["repair"]  # type: ignore[union-attr]
    assert server.psql(EVERYWHERE, people) == "5"
    assert server.psql(INVALID, people) == "0"
    # dropping the whole would take an index along that was there before
    assert not result.undo


def test_a_unique_index_of_a_partitioned_table_needs_its_partition_key(server: Server, people: str, make: Make) -> None:
    server.psql(PARTITIONED, people)
    error = refused(lambda: make({**EVENTS, "columns": ["kind"], "unique": True}))
    assert error.code == "partition_key_missing"
    assert server.psql(EVERYWHERE, people) == "0"


def test_one_entry_means_one_index_in_each_tenant(server: Server, people: str, make: Make) -> None:
    tenants = [f"org_{number}" for number in range(6)]
    server.psql(
        "".join(
            f"CREATE SCHEMA {name}; CREATE TYPE {name}.\"Status\" AS ENUM ('on', 'off');"
            f'CREATE TABLE {name}."Show" (id int, status {name}."Status", "createdAt" date);'
            for name in tenants
        )
        + "CREATE SCHEMA org_empty",
        people,
    )
    wanted: Entry = {
        "name": "show_status",
        "table": "Show",
        "schemas": ["org_*"],
        "columns": ["createdAt"],
        "where": "status = 'on'",
    }
    result = make(wanted)
    assert result.plan
    assert result.plan.ceilings["indexes"] == 6
    assert any("org_empty have no table Show" in line for line in result.plan.warnings)
    assert server.psql("SELECT count(*) FROM pg_indexes WHERE indexname = 'show_status'", people) == "6"
    assert len(undo_of(result)) == 1, "the entry as it was written, and the six schemas"
    assert not make(wanted).changed
    one = make(wanted, name="org_3.show_status", state="absent")
    assert server.psql("SELECT count(*) FROM pg_indexes WHERE indexname = 'show_status'", people) == "5"
    make(*undo_of(one))
    make(*undo_of(result))
    assert server.psql("SELECT count(*) FROM pg_indexes WHERE indexname = 'show_status'", people) == "0"
    with pytest.raises(OpsError, match="no schema matches"):
        make({**wanted, "schemas": ["nobody_*"]})


def test_a_function_of_each_tenant_makes_an_index_of_its_own_meaning(server: Server, people: str, make: Make) -> None:
    tenants = ("org_a", "org_b")
    server.psql(
        "".join(
            f"CREATE SCHEMA {name}; CREATE TABLE {name}.shows (title text);"
            f"CREATE FUNCTION {name}.norm(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';"
            for name in tenants
        ),
        people,
    )
    wanted: Entry = {
        "name": "title",
        "table": "shows",
        "schemas": ["org_*"],
        "columns": [{"expression": "norm(title)"}],
    }
    assert make(wanted).changed
    texts = server.psql("SELECT indexdef FROM pg_indexes WHERE indexname = 'title' ORDER BY 1", people).splitlines()
    assert [f"{name}.norm(title)" in text for name, text in zip(tenants, texts, strict=True)] == [True, True]
    assert not make(wanted).changed


def test_a_proof_that_the_planner_does_not_take_is_a_warning(server: Server, people: str, make: Make) -> None:
    fits = make(entry("id", "n", proof="SELECT n FROM people WHERE id = 7 AND n = 7"))
    assert fits.changed
    from pathlib import Path

    from ansible_collections.saasops.runbook.plugins.module_utils.execute import index
    from ansible_collections.saasops.runbook.tests.lab import acts

    said: list[str] = []
    params = acts.parameters(
        server,
        Path("/nowhere"),
        people,
        {"indexes": [{**entry("tags"), "name": "j", "proof": "SELECT 1 FROM people WHERE name = 'n1'"}]},
    )
    index.execute(params, acts.context(lines=said))
    assert any("does not use it" in line for line in said), said


def test_a_look_does_not_hang_behind_a_table_that_is_locked(server: Server, people: str, make: Make) -> None:
    with psycopg2.connect(server.dsn(people)) as other:
        other.cursor().execute("LOCK TABLE people IN ACCESS EXCLUSIVE MODE")
        error = refused(lambda: make(entry("n"), check=True))
        assert error.code == "lock_timeout"
