# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of tables, indexes and sequences, each with its condition made real, and once without it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Survey
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy
from ansible_collections.saasops.runbook.tests.lab import postgres
from ansible_collections.saasops.runbook.tests.lab.pg_checks import level, look, measured, outcome, sessions, until

pytestmark = pytest.mark.parametrize("server", [15, 18], indirect=True)

DAY = 86400.0


def remedy(survey: Survey, name: str, scope: str) -> Remedy:
    found = measured(survey, name)[scope].remedy
    assert found is not None
    return found


@pytest.fixture
def stranger(server: postgres.Server, database: str) -> Iterator[dict[str, str]]:
    """A login role that may connect and nothing else."""
    name = f"stranger_{database}"
    server.psql(f"CREATE ROLE {name} LOGIN PASSWORD 'of a stranger'")
    yield {"user": name, "password": "of a stranger"}
    server.psql(f"DROP ROLE {name}")


def test_an_index_whose_unique_build_failed_is_debris_and_one_that_is_being_built_is_not(
    server: postgres.Server, database: str, stranger: dict[str, str]
) -> None:
    server.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (1)", database)
    assert level(look(server, database), "invalid_indexes") == "ok"
    with sessions(server, 2, dbname=database) as (holder, builder):
        holder.autocommit = False  # type: ignore[attr-defined]
        holder.cursor().execute("INSERT INTO t VALUES (1)")  # type: ignore[attr-defined]

        def build() -> None:
            with contextlib.suppress(psycopg2.Error):
                builder.cursor().execute("CREATE UNIQUE INDEX CONCURRENTLY twice ON t (n)")  # type: ignore[attr-defined]

        worker = threading.Thread(target=build)
        worker.start()
        there = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        try:
            assert until(lambda: server.psql(there, database) == "1")
            building = look(server, database)
            blind = look(server, database, **stranger)
        finally:
            holder.rollback()  # type: ignore[attr-defined]
            worker.join()
    assert level(building, "invalid_indexes") == "ok"
    # who may not see which table is being built on does not take it for debris
    its = outcome(blind, "invalid_indexes")
    assert (its.level.value, its.scope) == ("inconclusive", "public.twice")
    assert "GRANT pg_monitor" in its.why
    survey = look(server, database)
    its = outcome(survey, "invalid_indexes")
    assert (its.level.value, its.scope) == ("warning", "public.twice")
    found = remedy(survey, "invalid_indexes", "public.twice")
    assert (found.verb, dict(found.variables)) == ("index", {"name": "public.twice", "state": "absent"})


def test_what_a_partitioned_index_lacks_is_no_debris(server: postgres.Server, database: str) -> None:
    server.psql(
        "CREATE TABLE p (n int) PARTITION BY RANGE (n); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);"
        "CREATE INDEX half ON ONLY p (n)",
        database,
    )
    found = remedy(look(server, database), "invalid_indexes", "public.half")
    assert found.verb == ""


def test_duplicates_are_found_by_meaning_and_prefixes_apart_from_them(server: postgres.Server, database: str) -> None:
    server.psql(
        """
        CREATE TABLE t (a int PRIMARY KEY, b text, c int, d int);
        CREATE INDEX one ON t (b, c); CREATE INDEX two ON t USING btree (b text_ops ASC, c);
        CREATE INDEX front ON t (b); CREATE INDEX other_collation ON t (b COLLATE "C");
        CREATE INDEX backwards ON t (b DESC); CREATE INDEX patterns ON t (b text_pattern_ops);
        CREATE INDEX a_few ON t (c) WHERE d > 0; CREATE INDEX  same_some  ON t(c)   WHERE  d > 0;
        CREATE INDEX other_some ON t (c) WHERE d > 1;
        CREATE INDEX lowered ON t (lower(b)); CREATE INDEX lowered_again ON t ( (lower(b)) );
        CREATE INDEX uppered ON t (upper(b));
        CREATE INDEX beside_key ON t (a); CREATE UNIQUE INDEX once ON t (d); CREATE INDEX not_once ON t (d);
        CREATE INDEX with_more ON t (b, c) INCLUDE (d)
        """,
        database,
    )
    survey = look(server, database)
    assert {scope: item.value for scope, item in measured(survey, "duplicate_indexes").items()} == {
        "public.two": 1,
        "public.same_some": 1,
        "public.lowered_again": 1,
        "public.beside_key": 1,
        "public.not_once": 1,
    }
    assert "is the same as t_pkey" in measured(survey, "duplicate_indexes")["public.beside_key"].detail[0]
    assert "public.front" in measured(survey, "prefix_indexes")
    assert "public.other_collation" not in measured(survey, "prefix_indexes")
    assert "public.patterns" not in measured(survey, "prefix_indexes")
    assert remedy(survey, "duplicate_indexes", "public.two").variables["state"] == "absent"


def test_a_table_without_duplicates_is_ok(server: postgres.Server, database: str) -> None:
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text); CREATE INDEX ON t (b)", database)
    survey = look(server, database)
    assert level(survey, "duplicate_indexes") == "ok"
    assert level(survey, "prefix_indexes") == "ok"
    assert level(survey, "foreign_keys_without_index") == "ok"


def test_a_foreign_key_needs_an_index_that_begins_with_its_columns_in_any_order(
    server: postgres.Server, database: str
) -> None:
    server.psql(
        """
        CREATE TABLE parent (a int, b int, PRIMARY KEY (a, b));
        CREATE TABLE bare (a int, b int, CONSTRAINT bare_fk FOREIGN KEY (a, b) REFERENCES parent);
        CREATE TABLE turned (a int, b int, c int, FOREIGN KEY (a, b) REFERENCES parent);
        CREATE INDEX ON turned (b, a, c);
        CREATE TABLE behind (a int, b int, c int, CONSTRAINT behind_fk FOREIGN KEY (a, b) REFERENCES parent);
        CREATE INDEX ON behind (c, a, b);
        CREATE TABLE partly (a int, b int, CONSTRAINT partly_fk FOREIGN KEY (a, b) REFERENCES parent);
        CREATE INDEX ON partly (a, b) WHERE a > 5;
        INSERT INTO parent VALUES (1, 1);
        INSERT INTO bare SELECT 1, 1 FROM generate_series(1, 5000); ANALYZE
        """,
        database,
    )
    survey = look(server, database)
    found = measured(survey, "foreign_keys_without_index")
    assert set(found) == {"public.bare.bare_fk", "public.behind.behind_fk", "public.partly.partly_fk"}
    assert float(str(found["public.bare.bare_fk"].value)) > 100_000
    assert level(survey, "foreign_keys_without_index", warning="> 100 kB") == "warning"
    assert level(survey, "foreign_keys_without_index", warning="> 10 MB") == "ok"


def test_an_index_that_nobody_scans_is_named_once_the_counters_are_old_enough(
    server: postgres.Server, database: str
) -> None:
    server.psql(
        """
        CREATE TABLE parent (a int PRIMARY KEY);
        CREATE TABLE t (id int PRIMARY KEY, a int REFERENCES parent, b int, c int, d int NOT NULL, e int);
        INSERT INTO t SELECT n, NULL, n, n, n, n FROM generate_series(1, 5000) n;
        CREATE INDEX supports_key ON t (a); CREATE INDEX used ON t (b); CREATE INDEX idle ON t (c);
        CREATE UNIQUE INDEX replica ON t (d); ALTER TABLE t REPLICA IDENTITY USING INDEX replica;
        CREATE UNIQUE INDEX guard ON t (e); ANALYZE
        """,
        database,
    )
    server.psql("SET enable_seqscan = off; SELECT * FROM t WHERE b = 5", database)
    young = look(server, database)
    assert level(young, "unused_indexes") == "inconclusive"
    used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'used'"
    assert until(lambda: server.psql(used, database) != "0")

    def later(days: float) -> Survey:
        survey = look(server, database)
        counting = survey.facts.counting_since or 0.0
        return replace(survey, facts=replace(survey.facts, now=counting + days * DAY))

    assert level(later(13.99), "unused_indexes") == "inconclusive"
    old = later(14.01)
    assert set(measured(old, "unused_indexes")) == {"public.idle"}
    assert level(old, "unused_indexes", warning="> 10 kB") == "warning"
    assert remedy(old, "unused_indexes", "public.idle").verb == "index"
    with_standby = replace(old, facts=replace(old.facts, standbys=1))
    found = measured(with_standby, "unused_indexes")["public.idle"]
    assert any("other servers" in line for line in found.detail)
    assert remedy(with_standby, "unused_indexes", "public.idle").verb == ""


@pytest.mark.parametrize(
    ("value", "found"), [(1_610_612_000, "ok"), (1_610_613_800, "warning"), (1_932_735_400, "critical")]
)
def test_a_sequence_ends_where_the_integer_column_does_that_it_feeds(
    server: postgres.Server, database: str, value: int, found: str
) -> None:
    # 75 % of 2,147,483,647 is 1,610,612,735; 90 % is 1,932,735,282
    server.psql(
        f"""
        CREATE TABLE t (id int PRIMARY KEY); CREATE SEQUENCE wide; SELECT setval('wide', {value});
        ALTER TABLE t ALTER COLUMN id SET DEFAULT nextval('wide');
        CREATE SEQUENCE round_and_round MAXVALUE 10 CYCLE; SELECT setval('round_and_round', 10);
        CREATE TABLE fine (id bigserial PRIMARY KEY); SELECT setval('fine_id_seq', {value})
        """,
        database,
    )
    survey = look(server, database)
    its = outcome(survey, "sequences")
    assert (its.level.value, its.scope) == (found, "public.wide")
    assert (
        "t.id, where the column ends before the sequence does" in measured(survey, "sequences")["public.wide"].detail[0]
    )
    assert "public.round_and_round" not in measured(survey, "sequences")
    assert float(str(measured(survey, "sequences")["public.fine_id_seq"].value)) < 1


def test_dead_rows_are_counted_and_vacuum_takes_them_away(server: postgres.Server, database: str) -> None:
    server.psql(
        "CREATE TABLE t (n int) WITH (autovacuum_enabled = false); INSERT INTO t SELECT generate_series(1, 1000)",
        database,
    )
    # of its own: what a session counts it reports when it ends
    server.psql("ANALYZE t; DELETE FROM t WHERE n <= 400", database)
    assert until(lambda: "public.t" in measured(look(server, database), "dead_rows"))
    survey = look(server, database)
    assert measured(survey, "dead_rows")["public.t"].value == 40.0
    assert level(survey, "dead_rows") == "warning"
    assert level(survey, "dead_rows", warning="> 40 %") == "ok"
    found = remedy(survey, "dead_rows", "public.t")
    assert (found.verb, dict(found.variables)) == ("maintenance", {"tables": "public.t", "measures": "vacuum"})
    server.psql("VACUUM t", database)
    assert until(lambda: level(look(server, database), "dead_rows") == "ok")


def test_after_a_reset_of_the_statistics_dead_rows_are_unknown_and_not_fine(
    server: postgres.Server, database: str
) -> None:
    server.psql(
        "CREATE TABLE t (n int) WITH (autovacuum_enabled = false); INSERT INTO t SELECT generate_series(1, 1000)",
        database,
    )
    # of its own: what a session counts it reports when it ends
    server.psql("ANALYZE t; DELETE FROM t WHERE n <= 400", database)
    assert until(lambda: "public.t" in measured(look(server, database), "dead_rows"))
    server.psql("SELECT pg_stat_reset()", database)
    its = outcome(look(server, database), "dead_rows")
    assert its.level.value == "inconclusive"
    assert "public.t" in its.why
    assert its.remedy is not None
    assert its.remedy.variables["measures"] == "analyze"


def test_bloat_is_estimated_from_statistics_close_to_what_is_really_free(
    server: postgres.Server, database: str
) -> None:
    server.psql(
        """
        CREATE TABLE t (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = false);
        INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n;
        CREATE TABLE tight AS SELECT * FROM t; CREATE INDEX tight_i ON tight (id); VACUUM ANALYZE
        """,
        database,
    )
    before = look(server, database)
    for check in ("table_bloat", "index_bloat"):
        for scope, item in measured(before, check).items():
            assert float(str(item.value)) < 12, (check, scope, item)
    server.psql("DELETE FROM t WHERE id % 10 <> 0; VACUUM ANALYZE t", database)
    after = look(server, database)
    # nine of ten rows went, from everywhere: the files keep their size
    assert 85 < float(str(measured(after, "table_bloat")["public.t"].value)) < 92
    assert 80 < float(str(measured(after, "index_bloat")["public.t_pkey"].value)) < 95
    assert float(str(measured(after, "table_bloat")["public.tight"].value)) < 12
    assert level(after, "table_bloat") == "warning"
    assert "estimated" in measured(after, "table_bloat")["public.t"].detail[0]
    assert remedy(after, "table_bloat", "public.t").variables["measures"] == "rewrite"
    assert remedy(after, "index_bloat", "public.t_pkey").variables == {"tables": "public.t", "measures": "reindex"}


def test_without_statistics_bloat_is_inconclusive(server: postgres.Server, database: str) -> None:
    server.psql(
        "CREATE TABLE t (n int) WITH (autovacuum_enabled = false); INSERT INTO t SELECT generate_series(1, 20000);"
        "VACUUM t",
        database,
    )
    its = outcome(look(server, database), "table_bloat")
    assert its.level.value == "inconclusive"
    assert "no statistics to estimate from (public.t); ANALYZE makes them" in its.why


def test_another_database_is_looked_into_and_its_remedies_lead_there(server: postgres.Server, database: str) -> None:
    server.psql("CREATE TABLE t (a int PRIMARY KEY); CREATE INDEX spare ON t (a)", database)
    survey = look(server, "postgres", others=[database, "no such database"])
    found = measured(survey, "duplicate_indexes")
    assert found[f"{database}/public.spare"].value == 1
    assert found["no such database"].missing
    spare = found[f"{database}/public.spare"].remedy
    assert spare is not None
    assert spare.variables["saasops_database"] == database


def test_the_checks_answer_while_a_table_is_locked_away_from_everybody(server: postgres.Server, database: str) -> None:
    server.psql("CREATE TABLE t (a int PRIMARY KEY, b text); CREATE INDEX i ON t (b) WHERE a > 0; ANALYZE", database)
    with sessions(server, 1, dbname=database) as (one,):
        one.autocommit = False  # type: ignore[attr-defined]
        one.cursor().execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")  # type: ignore[attr-defined]
        survey = look(server, database)
    refused = {key: answer for key, answer in survey.answers.items() if isinstance(answer, Exception)}
    assert [name for _database, name in refused] == ["statements"]
