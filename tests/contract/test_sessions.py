# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions are ended on real servers: the root alone, the protected never, and only while they are who they were."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_choice import Chosen
from ansible_collections.saasops.runbook.plugins.module_utils.execute import sessions
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result, Unguarded
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import activity
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.blocking import backends
from ansible_collections.saasops.runbook.tests.lab import acts, postgres
from ansible_collections.saasops.runbook.tests.lab.clients import Client, until, waiting
from ansible_collections.saasops.runbook.tests.lab.places import of_server
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.stuck import Stuck

NEWEST = pytest.mark.parametrize("server", [18], indirect=True, ids=["pg18"])
BOTH = pytest.mark.parametrize("server", [15, 18], indirect=True, ids=["pg15", "pg18"])
# 0s is exceeded at once: what is tested here is who is ended, not when
ROOTS: Mapping[str, object] = {"name": "roots", "blocking": True}
QUERIES: Mapping[str, object] = {"name": "queries", "state": "active", "query_over": "0s", "limit": 99}
IDLE: Mapping[str, object] = {"name": "idle", "state": ["idle in transaction", "idle"], "idle_over": "0s", "limit": 99}
ROW = "UPDATE items SET note = 'x' WHERE id = 1"


@dataclass
class Hook(Unguarded):
    """An admission that lets a test act between the plan and the first signal."""

    before: Callable[[], object] = lambda: None
    said: list[Mapping[str, object]] = field(default_factory=list)

    def authorise(self, plan: Plan) -> None:
        assert plan.actions
        self.before()

    def says(self, kind: str, facts: Mapping[str, object]) -> None:
        self.said.append({"kind": kind, **facts})


@dataclass
class Scene:
    """A database with one table, a role whose sessions come and go, and the verb."""

    server: Server
    database: str
    role: str
    clients: list[Client] = field(default_factory=list)

    def client(self, application: str = "web", user: str = "") -> Client:
        self.clients.append(Client(self.server, self.database, user or self.role, application))
        return self.clients[-1]

    def end(self, *, check: bool = False, hook: Hook | None = None, **changes: object) -> Result:
        parameters = {
            "system": "test",
            "database": self.database,
            "connection": acts.connection(self.server),
            "store": {"type": "posix", "path": "/nonexistent"},
            "policies": [ROOTS, QUERIES, IDLE],
            "patience": 3,
            **changes,
        }
        return sessions.execute(parameters, replace(acts.context(check), admission=hook or Hook()))

    def blocked(self) -> str:
        return self.server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def there(self, client: Client) -> bool:
        return self.server.psql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {client.pid}") == "1"


@pytest.fixture
def scene(server: Server, database: str) -> Iterator[Scene]:
    role = f"{database}_app"
    server.psql(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    server.psql(
        "CREATE TABLE items (id int PRIMARY KEY, note text);"
        "INSERT INTO items SELECT i, '' FROM generate_series(1, 9) i;"
        f"GRANT ALL ON items TO {role}",
        database,
    )
    made = Scene(server, database, role)
    yield made
    for client in made.clients:
        client.close()
    server.psql(f"DROP OWNED BY {role}", database)
    server.psql(f"DROP ROLE {role}")


def held(scene: Scene) -> Client:
    """A session that holds a row in a transaction and does nothing."""
    return scene.client("forgotten").run("BEGIN", ROW)


@pytest.mark.parametrize("server", [15, 17, 18], indirect=True, ids=["pg15", "pg17", "pg18"])
def test_of_a_chain_only_the_root_is_ended_and_everybody_behind_goes_on(scene: Scene) -> None:
    root = held(scene)
    middle = scene.client().run("BEGIN", "UPDATE items SET note = 'm' WHERE id = 2").start(ROW)
    until(waiting(scene.server, middle))
    behind = [scene.client().start("UPDATE items SET note = 'b' WHERE id = 2") for _number in range(3)]
    until(waiting(scene.server, *behind))
    checked = scene.end(policy=["roots"], check=True)
    assert (checked.changed, scene.there(root)) == (True, True)
    done = scene.end(policy=["roots"])
    assert [item["pid"] for item in done.evidence["ended"]] == [root.pid]
    assert not root.lives()
    assert middle.done()
    assert middle.error is None
    assert (done.evidence["before"]["blocked"], done.evidence["after"]["blocked"]) == (4, 3)
    middle.run("COMMIT")
    assert all(client.done() and client.error is None for client in behind)
    assert not scene.end(policy=["roots"]).changed


@NEWEST
def test_an_age_that_the_operator_says_ends_the_oldest_first_whatever_policies_there_are(scene: Scene) -> None:
    first = held(scene)
    second = scene.client().run("BEGIN", "SELECT 1")
    own = {"policies": [{"name": "idle_in_transaction", "state": "idle in transaction", "idle_over": "1h"}]}
    assert not scene.end(idle_in_transaction="1h", **own).changed
    done = scene.end(idle_in_transaction="0s", limit=1, **own)
    assert [item["pid"] for item in done.evidence["ended"]] == [first.pid]
    assert done.plan
    # who agreed to an age did not agree to a shorter one
    assert [action.object for action in done.plan.actions] == ["idle in transaction for more than 0 s"]
    assert (first.lives(), second.lives()) == (False, True)


@NEWEST
def test_of_a_crowd_that_waits_for_one_the_one_is_ended(scene: Scene) -> None:
    root = held(scene)
    crowd = [scene.client().start(f"UPDATE items SET note = '{number}' WHERE id = 1") for number in range(30)]
    until(waiting(scene.server, *crowd))
    done = scene.end(policy=["roots"])
    assert [(item["pid"], item["how"]) for item in done.evidence["ended"]] == [(root.pid, "terminated")]
    assert done.evidence["before"]["blocked"] == 30
    assert all(client.done() and client.error is None for client in crowd)


@NEWEST
def test_who_has_locked_a_catalog_and_so_keeps_everybody_out_is_ended(scene: Scene) -> None:
    admin = scene.server.connect(scene.database)
    admin.autocommit = False
    with admin.cursor() as cursor:
        cursor.execute("LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE")
    try:
        began = time.monotonic()
        assert scene.end(pid=admin.info.backend_pid).changed
        assert time.monotonic() - began < 10
    finally:
        admin.close()


@NEWEST
def test_settings_of_the_login_role_do_not_end_the_run(scene: Scene) -> None:
    operator = f"{scene.role}_hurried"
    scene.server.psql(
        f"CREATE ROLE {operator} SUPERUSER LOGIN PASSWORD '{operator}';"
        f"ALTER ROLE {operator} SET idle_session_timeout = '300ms';"
        f"ALTER ROLE {operator} SET default_transaction_read_only = on"
    )
    client = held(scene)
    login = {**acts.connection(scene.server), "user": operator, "password": operator}
    try:
        assert scene.end(policy=["idle"], connection=login, hook=Hook(lambda: time.sleep(0.5))).changed
        assert not client.lives()
    finally:
        scene.server.psql(f"DROP ROLE {operator}")


@NEWEST
def test_a_root_that_runs_a_statement_is_cancelled_and_lives(scene: Scene) -> None:
    root = scene.client().run("BEGIN", ROW).start("SELECT pg_sleep(60)")
    victim = scene.client().start(ROW)
    until(waiting(scene.server, victim))
    until(lambda: scene.server.psql(f"SELECT state FROM pg_stat_activity WHERE pid = {root.pid}") == "active")
    done = scene.end(policy=["roots"])
    assert [(item["how"], item["gone"]) for item in done.evidence["ended"]] == [("cancelled", False)]
    assert root.done()
    assert "canceling statement" in str(root.error)
    assert root.lives()
    assert victim.done()


@NEWEST
def test_a_root_that_keeps_its_locks_through_a_cancel_is_terminated(scene: Scene) -> None:
    root = scene.client().run("BEGIN", ROW, "SAVEPOINT s").start("SELECT pg_sleep(60)")
    victim = scene.client().start(ROW)
    until(waiting(scene.server, victim))
    until(lambda: scene.server.psql(f"SELECT state FROM pg_stat_activity WHERE pid = {root.pid}") == "active")
    done = scene.end(policy=["roots"], patience=1)
    assert [(item["how"], item["gone"]) for item in done.evidence["ended"]] == [("terminated", True)]
    assert not root.lives()
    assert victim.done()
    assert victim.error is None


@BOTH
def test_a_prepared_transaction_at_the_root_is_reported_and_rolled_back_only_by_its_name(scene: Scene) -> None:
    scene.client().run("BEGIN", ROW, "PREPARE TRANSACTION 'it''s half'")
    victim = scene.client().start(ROW)
    behind = scene.client().run("BEGIN", "UPDATE items SET note = 'x' WHERE id = 3")
    until(waiting(scene.server, victim))
    shown = scene.end(policy=["roots"])
    assert not shown.changed
    assert 'prepared transaction "it\'s half"' in "\n".join(shown.evidence["lines"])
    assert not scene.end(gid="another").changed
    assert scene.end(gid="it's half", check=True).changed
    assert not victim.done(0)
    done = scene.end(gid="it's half")
    assert done.changed
    assert victim.done()
    assert victim.error is None
    assert behind.lives()
    assert not scene.end(gid="it's half").changed


@NEWEST
def test_a_circle_that_leads_through_a_prepared_transaction_ends_with_it(scene: Scene) -> None:
    scene.client().run("BEGIN", ROW, "PREPARE TRANSACTION 'circle'")
    first = scene.client().run("BEGIN", "UPDATE items SET note = 'a' WHERE id = 2").start(ROW)
    until(waiting(scene.server, first))
    second = scene.client().start("UPDATE items SET note = 'b' WHERE id = 2")
    until(waiting(scene.server, second))
    assert not scene.end(policy=["roots"]).changed
    assert scene.end(gid="circle").evidence["before"]["blocked"] == 2
    assert first.done()
    first.run("COMMIT")
    assert second.done()


@BOTH
def test_a_receiver_of_wal_is_never_ended(scene: Scene, tmp_path: Path) -> None:
    folder = Path(f"{scene.server.folder}/wal")
    folder.mkdir(exist_ok=True)
    argv = [str(scene.server.bin / "pg_receivewal"), "-D", str(folder), "--no-loop"]
    find = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'"
    with subprocess.Popen(argv, env=scene.server.environment(), stderr=subprocess.DEVNULL) as receiver:
        try:
            until(lambda: scene.server.psql(find) != "")
            pid = scene.server.psql(find)
            with pytest.raises(OpsError) as refused:
                scene.end(pid=int(pid))
            assert refused.value.code == "session_protected"
            every = {"name": "every", "query_over": "0s", "user": ["postgres"], "limit": 99}
            scene.end(policy=["every"], policies=[every])
            scene.end(user="postgres")
            assert scene.server.psql(find) == pid
        finally:
            receiver.terminate()


@NEWEST
def test_a_running_backup_of_ours_is_never_ended_and_who_blocks_it_is(scene: Scene, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    root = scene.client("migration").run("BEGIN", "LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
    taken: list[Result] = []
    backup = threading.Thread(target=lambda: taken.append(acts.take_backup(scene.server, store, scene.database)))
    backup.start()
    until(lambda: scene.blocked() != "0")
    ours = scene.server.psql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'saasops-backup-%'")
    every = {"name": "every", "transaction_over": "0s", "user": ["postgres"], "limit": 99}
    spared = scene.end(policy=["every", "queries", "idle"], policies=[every, QUERIES, {**IDLE, "user": ["postgres"]}])
    assert not {item["pid"] for item in spared.evidence["ended"]} & {int(pid) for pid in ours.split()}
    for pid in ours.split():
        with pytest.raises(OpsError, match="a run of this collection"):
            scene.end(pid=int(pid))
    done = scene.end(policy=["roots"])
    assert [item["pid"] for item in done.evidence["ended"]] == [root.pid]
    backup.join(30)
    assert [result.changed for result in taken] == [True]


@NEWEST
def test_a_dump_by_its_name_is_left_to_whoever_names_it(scene: Scene) -> None:
    dump = scene.client("pg_dump").run("BEGIN", "SELECT 1")
    assert "pg_dump" in str(scene.end(policy=["idle"]).evidence["spared"])
    assert dump.lives()
    assert scene.end(pid=dump.pid).changed
    assert not dump.lives()


@NEWEST
def test_idle_members_of_a_pool_stay_a_lonely_one_goes_and_the_forgotten_transaction_first(scene: Scene) -> None:
    pool = [scene.client("web") for _number in range(3)]
    lonely = scene.client("psql")
    forgotten = held(scene)
    done = scene.end(policy=["idle"])
    assert [item["pid"] for item in done.evidence["ended"]] == [forgotten.pid, lonely.pid]
    assert all(client.lives() for client in pool)
    assert not lonely.lives()
    assert not scene.end(policy=["idle"]).changed


@NEWEST
def test_the_inventory_names_the_pools(scene: Scene) -> None:
    lonely = scene.client("hikari-1")
    pools = {"application": ["hikari*"], "user": []}
    assert not scene.end(policy=["idle"], pools=pools).changed
    assert lonely.lives()


@NEWEST
def test_only_who_is_in_the_way_of_these_tables_is_ended(scene: Scene) -> None:
    scene.server.psql(f'CREATE TABLE "Campaign" (id int); GRANT ALL ON "Campaign" TO {scene.role}', scene.database)
    other, mine = held(scene), scene.client("mine").run("BEGIN", 'LOCK TABLE "Campaign"')
    victims = [scene.client().start(ROW), scene.client().start('SELECT * FROM "Campaign"')]
    until(waiting(scene.server, *victims))
    policy = {"name": "campaigns", "blocking": True, "relation": "*.Campaign*"}
    done = scene.end(policy=["campaigns"], policies=[policy])
    assert [item["pid"] for item in done.evidence["ended"]] == [mine.pid]
    assert other.lives()
    row = {"name": "rows", "blocking": True, "relation": "public.items"}
    assert [i["pid"] for i in scene.end(policy=["rows"], policies=[row]).evidence["ended"]] == [other.pid]


@NEWEST
def test_a_session_that_moved_on_before_the_signal_is_left_alone(scene: Scene) -> None:
    root = held(scene)
    victim = scene.client().start(ROW)
    until(waiting(scene.server, victim))
    done = scene.end(policy=["roots"], hook=Hook(lambda: root.run("COMMIT", "BEGIN", "SELECT 1")))
    assert not done.changed
    assert root.lives()
    assert [item["how"] for item in done.evidence["ended"]] == ["moved on"]


@BOTH
@pytest.mark.parametrize("kind", ["psycopg", "psql"])
def test_the_signal_reaches_nobody_who_only_has_the_same_pid_or_the_same_session(scene: Scene, kind: str) -> None:
    client = held(scene)
    with_place = of_server(scene.server, kind)
    session = with_place.open()
    try:
        (found,) = [b for b in backends(session) if b.pid == client.pid]
        right = Chosen(found, "policy p", "why", "transaction")
        reused = replace(right, backend=replace(found, started="2020-01-01T00:00:00+00:00"))
        later = replace(right, backend=replace(found, transaction_start="2020-01-01T00:00:00+00:00"))
        for wrong in (reused, later):
            assert activity.terminate(session, [wrong]) == set()
            assert activity.cancel(session, [wrong]) == set()
        assert client.lives()
        assert activity.terminate(session, [right]) == {client.pid}
    finally:
        with_place.close()
    until(lambda: not client.lives())


@NEWEST
def test_a_root_that_nobody_waits_for_any_more_is_left_alone(scene: Scene) -> None:
    root = held(scene)
    victim = scene.client().start(ROW)
    until(waiting(scene.server, victim))

    def gives_up() -> None:
        scene.server.psql(f"SELECT pg_terminate_backend({victim.pid})")
        until(lambda: scene.blocked() == "0")

    done = scene.end(policy=["roots"], hook=Hook(gives_up))
    assert not done.changed
    assert root.lives()


@NEWEST
def test_one_who_is_named_is_cancelled_first_and_then_gone(scene: Scene) -> None:
    busy = scene.client().start("SELECT pg_sleep(60)")
    until(
        lambda: (
            scene.server.psql(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'"
            )
            == "1"
        )
    )
    done = scene.end(pid=busy.pid, patience=1)
    assert [(item["how"], item["gone"]) for item in done.evidence["ended"]] == [("terminated", True)]
    assert "canceling statement" in str(busy.error)
    assert not scene.end(pid=busy.pid).changed


@NEWEST
def test_a_user_loses_his_sessions_up_to_the_limit(scene: Scene) -> None:
    clients = [scene.client("web") for _number in range(3)]
    assert len(scene.end(user=scene.role, limit=2).evidence["ended"]) == 2
    assert sum(client.lives() for client in clients) == 1
    assert len(scene.end(user=scene.role).evidence["ended"]) == 1
    assert not scene.end(user=scene.role).changed


@BOTH
def test_one_that_does_not_die_is_told_and_is_no_success(scene: Scene) -> None:
    with Stuck(scene.server, scene.database) as stuck:
        pid = stuck.pid
        with pytest.raises(OpsError) as told:
            scene.end(pid=pid, patience=1)
        assert told.value.code == "sessions_remain"
        assert f"pid {pid}: terminated, but still there" in told.value.cause
        assert told.value.details["lines"]


@NEWEST
def test_evidence_is_kept_before_the_first_signal_and_holds_no_value(scene: Scene) -> None:
    root = scene.client("forgotten").run("BEGIN", "UPDATE items SET note = 'tr0ub4dor' WHERE id = 1")
    victim = scene.client().start(ROW)
    until(waiting(scene.server, victim))
    hook = Hook(lambda: None)
    done = scene.end(policy=["roots"], hook=hook)
    (kept,) = hook.said
    lines = "\n".join(kept["lines"])  # type: ignore[arg-type]
    assert f"pid {root.pid}" in lines
    assert f"pid {victim.pid}" in lines
    assert "UPDATE items SET note = ? WHERE id = ?" in lines
    assert "tr0ub4dor" not in f"{kept} {done.evidence} {done.plan}"


@BOTH
def test_missing_rights_are_refused_by_name_and_nobody_is_ended(scene: Scene) -> None:
    client = held(scene)
    weak = scene.client("ops").run("SELECT 1")
    operator = f"{scene.role}_ops"
    scene.server.psql(f"CREATE ROLE {operator} LOGIN PASSWORD '{operator}'")
    login = {**acts.connection(scene.server), "user": operator, "password": operator}
    try:
        with pytest.raises(OpsError) as unseen:
            scene.end(policy=["idle"], connection=login)
        assert unseen.value.code == "sessions_hidden"
        assert "GRANT pg_read_all_stats" in unseen.value.remedy
        scene.server.psql(f"GRANT pg_read_all_stats TO {operator}")
        with pytest.raises(OpsError) as refused:
            scene.end(policy=["idle"], connection=login)
        assert refused.value.code == "not_permitted"
        assert f"GRANT pg_signal_backend TO {operator}" in refused.value.remedy
        assert client.lives()
        scene.server.psql(f"GRANT pg_signal_backend TO {operator}")
        admin = scene.server.connect(scene.database)
        assert scene.end(policy=["idle"], connection=login).changed
        assert not client.lives()
        assert not weak.lives()
        with pytest.raises(OpsError, match="superuser"):
            scene.end(pid=admin.info.backend_pid, connection=login)
        admin.close()
    finally:
        scene.server.psql(f"DROP ROLE {operator}")


@NEWEST
def test_a_session_of_psql_does_the_same(scene: Scene) -> None:
    root = held(scene)
    victim = scene.client().start(ROW)
    until(waiting(scene.server, victim))
    login = {**acts.connection(scene.server), "session": "psql"}
    assert scene.end(policy=["roots"], connection=login).changed
    assert not root.lives()
    assert victim.done()


@NEWEST
def test_with_nothing_asked_for_everybody_is_shown_and_nobody_ended(scene: Scene) -> None:
    root = held(scene)
    shown = scene.end()
    assert not shown.changed
    assert "-e policy=idle would end 1" in "\n".join(shown.evidence["lines"])
    assert root.lives()


@BOTH
def test_when_every_slot_is_taken_the_rescue_connection_frees_them(server: Server) -> None:
    settings = {"max_connections": "8", "superuser_reserved_connections": "2", "max_wal_senders": "2"}
    with postgres.running(server.version, settings=settings) as small:
        small.psql("CREATE ROLE app LOGIN PASSWORD 'app'")
        small.psql("CREATE DATABASE shop")
        scene = Scene(small, "shop", "app")
        forgotten = [Client(small, "shop", "app").run("BEGIN", "SELECT 1") for _number in range(6)]
        ordinary = {**acts.connection(small), "user": "app", "password": "app"}
        with pytest.raises(OpsError) as refused:
            scene.end(policy=["idle"], connection=ordinary)
        assert refused.value.code == "no_free_connection"
        assert "saasops_rescue_connection" in refused.value.remedy
        done = scene.end(policy=["idle"], connection=ordinary, rescue_connection=acts.connection(small))
        assert done.evidence["rescued"] is True
        assert (done.evidence["before"]["free_slots"], done.evidence["after"]["free_slots"]) == (0, 5)
        assert not any(client.lives() for client in forgotten)


@NEWEST
def test_a_server_that_restarts_in_the_middle_ends_the_run_and_the_next_one_goes_on(server: Server) -> None:
    with postgres.running(server.version) as own:
        own.psql("CREATE ROLE app LOGIN PASSWORD 'app'")
        scene = Scene(own, "postgres", "app")
        forgotten = Client(own, "postgres", "app").run("BEGIN", "SELECT 1")

        def restart() -> None:
            own.stop("immediate")
            own.start()

        with pytest.raises(OpsError) as ended:
            scene.end(policy=["idle"], hook=Hook(restart))
        assert ended.value.code == "session_ended"
        assert not forgotten.lives()
        assert not scene.end(policy=["idle"]).changed


def test_an_autovacuum_that_prevents_wraparound_is_never_ended() -> None:
    settings = {
        "autovacuum_freeze_max_age": "100000",
        "autovacuum_naptime": "1s",
    }
    with postgres.running(18, settings=settings) as own:
        own.psql(
            "CREATE TABLE old WITH (autovacuum_enabled = off, autovacuum_vacuum_cost_delay = 100,"
            " autovacuum_vacuum_cost_limit = 1) AS SELECT i FROM generate_series(1, 50000) i;"
            "CREATE ROLE app LOGIN PASSWORD 'app'; ALTER TABLE old OWNER TO app"
        )
        own.psql(
            "CREATE PROCEDURE burn() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..110000 LOOP"
            " PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$; CALL burn()"
        )
        find = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'autovacuum:%old (to prevent wraparound)'"
        until(lambda: own.psql(find) != "", 30)
        pid = own.psql(find)
        scene = Scene(own, "postgres", "postgres")
        # it holds up who wants the table for itself, and does not give way
        blocked = Client(own, "postgres", "app").start("TRUNCATE old")
        until(waiting(own, blocked))
        with pytest.raises(OpsError) as refused:
            scene.end(pid=int(pid))
        assert refused.value.code == "session_protected"
        assert "wraparound" in refused.value.cause
        every = {"name": "every", "transaction_over": "0s", "blocking": True}
        spared = scene.end(policy=["every"], policies=[every])
        assert not spared.changed
        assert "wraparound" in str(spared.evidence["spared"])
        assert own.psql(find) == pid
