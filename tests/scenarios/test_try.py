# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""make try: one's own database in under a minute, read only; the server is asked whether that is so."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import demo, postgres, s3
from ansible_collections.saasops.runbook.tests.lab.pgbouncer import pgbouncer
from ansible_collections.saasops.runbook.tests.lab.playbooks import COLLECTIONS, inventory, play

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from try_dsn import resolve, store_of  # noqa: E402

PASSWORD = "planted-pässword:'1"
QUOTED = PASSWORD.replace("'", "''")
ENCODED = "planted-p%C3%A4ssword%3A%271"
# what a session that is not read only meets, so that the look would fail if one of its sessions were not
WATCH = """
CREATE FUNCTION only_readers() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF session_user = 'visitor' AND current_setting('default_transaction_read_only') <> 'on' THEN
    RAISE EXCEPTION 'a session of the visitor may write';
  END IF;
END $$;
CREATE EVENT TRIGGER only_readers ON login EXECUTE FUNCTION only_readers();
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[postgres.Server]:
    # no background work may use a transaction number: every one that is gone was taken by the look
    with postgres.running(18, settings={"autovacuum": "off"}) as server:
        demo.create(server, "shop", parameters=demo.Parameters(2))
        server.psql(f"CREATE ROLE visitor LOGIN BYPASSRLS PASSWORD '{QUOTED}'")
        server.psql(
            "GRANT pg_read_all_data, pg_read_all_settings TO visitor; GRANT CONNECT ON DATABASE shop TO visitor"
        )
        # pg_read_all_data does not open large objects
        server.psql(
            "SELECT format('GRANT SELECT ON LARGE OBJECT %s TO visitor', oid) FROM pg_largeobject_metadata \\gexec",
            "shop",
        )
        server.psql(WATCH, "shop")
        yield server


@dataclass(frozen=True)
class Answer:
    code: int
    output: str
    seconds: float
    argv_seen: int


def look(folder: Path, dsn: str, **more: str) -> Answer:
    """Run the tool as make does, while the command lines of all processes are looked at for the password."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "ANSIBLE", "AWS"))}
    environment.update(DSN=dsn, TMPDIR=str(temporary), HOME=str(folder), **more)
    seen = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if PASSWORD.encode() in line or ENCODED.encode() in line:
                    seen.append(line)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / "try_database.py")],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
    finally:
        ended.set()
        watcher.join()
    assert list(temporary.iterdir()) == [], "nothing is left in the temporary folder"
    return Answer(done.returncode, done.stdout, time.monotonic() - began, len(seen))


def uri(server: postgres.Server, user: str = "visitor", password: str = ENCODED, database: str = "shop") -> str:
    return f"postgresql://{user}:{password}@{server.host}:{server.port}/{database}"


def state(server: postgres.Server) -> Mapping[str, str]:
    """What any write would change: the next transaction number, rows written, objects, roles, databases, settings."""
    questions = {
        "transactions": "SELECT pg_snapshot_xmax(pg_current_snapshot())",
        "rows": "SELECT datname, tup_inserted, tup_updated, tup_deleted, temp_files FROM pg_stat_database ORDER BY 1",
        "objects": "SELECT count(*), max(oid) FROM pg_class",
        "roles": "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles",
        "databases": "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database",
        "settings": "SELECT md5(string_agg(name || setting, ',' ORDER BY name)) FROM pg_file_settings",
        "slots": "SELECT count(*) FROM pg_replication_slots",
    }
    return {name: server.psql(sql, "shop") for name, sql in questions.items()}


def test_a_session_that_may_write_would_be_noticed(shop: postgres.Server) -> None:
    with pytest.raises(Exception, match="may write"):
        shop.connect("shop", "visitor", PASSWORD)


def test_it_says_what_a_backup_would_do_and_leaves_the_server_as_it_was(shop: postgres.Server, tmp_path: Path) -> None:
    before = state(shop)
    answer = look(tmp_path, uri(shop))
    assert answer.code == 0, answer.output
    assert answer.seconds < 60
    assert state(shop) == before
    assert "dump shop (all schemas): 97 tables" in answer.output
    assert "nothing is known of backups" in answer.output
    assert "not_superuser" in answer.output
    assert "refuses" not in answer.output


def test_no_password_is_in_the_output_in_a_command_line_or_in_a_file(shop: postgres.Server, tmp_path: Path) -> None:
    answer = look(tmp_path, uri(shop))
    assert answer.code == 0, answer.output
    assert PASSWORD not in answer.output
    assert ENCODED not in answer.output
    assert answer.argv_seen == 0
    written = [path for path in (*tmp_path.rglob("*"), *(ROOT / ".cache").rglob("*")) if path.is_file()]
    assert [path for path in written if PASSWORD.encode() in path.read_bytes()] == []


def test_the_next_command_as_printed_makes_the_first_proven_backup(shop: postgres.Server, tmp_path: Path) -> None:
    answer = look(tmp_path, uri(shop, shop.user, shop.password))
    assert answer.code == 0, answer.output
    lines = answer.output.splitlines()
    drafted = [line for line in lines if line.startswith("    ") and not line.lstrip().startswith("ANSIBLE")]
    assert 0 < len([line for line in drafted if re.match(r"    (all:|  )", line)]) <= 10
    command = next(line.strip() for line in lines if line.lstrip().startswith("ANSIBLE_COLLECTIONS_PATH="))
    variable, *argv = shlex.split(command)
    name, _sign, value = variable.partition("=")
    environment = {**os.environ, name: value, "PGPASSFILE": str(shop.passfile), "HOME": str(tmp_path)}
    done = subprocess.run(
        argv, env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "backups" / "shop" / "backups").glob("*/manifest.json"))) == 1


def test_the_age_of_the_newest_recovery_point_is_told_when_a_store_is_named(
    shop: postgres.Server, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    variables = {
        "saasops_system": "shop",
        "saasops_database": "shop",
        "saasops_connection": {
            "host": shop.host,
            "port": shop.port,
            "user": shop.user,
            "password": shop.password,
            "client_bin": str(shop.bin),
        },
        "saasops_store": {"path": str(store), "create": True},
    }
    made = play("backup", inventory(tmp_path, variables))
    assert made.code == 0, made.output
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    answer = look(tmp_path, uri(shop), STORE=str(store))
    assert answer.code == 0, answer.output
    set_id = next((store / "backups").iterdir()).name
    assert re.search(rf"{set_id}\s+\d+ s", answer.output)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_an_s3_store_is_asked_with_the_credentials_of_the_environment(
    shop: postgres.Server, s3_server: s3.Server, tmp_path: Path
) -> None:
    bucket = s3_server.create_bucket()
    keys = {"AWS_ACCESS_KEY_ID": s3_server.access_key, "AWS_SECRET_ACCESS_KEY": s3_server.secret_key}
    where = {"AWS_ENDPOINT_URL": s3_server.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    answer = look(tmp_path, uri(shop), STORE=f"s3://{bucket}/shop", **keys, **where)
    assert answer.code == 0, answer.output
    assert f"to s3://{bucket}/shop" in answer.output
    assert "CRITICAL" in answer.output or "no proven set" in answer.output
    assert s3_server.secret_key not in answer.output


def test_what_stops_a_backup_or_a_switch_is_named_with_the_way_on(shop: postgres.Server, tmp_path: Path) -> None:
    shop.psql("CREATE ROLE narrow LOGIN PASSWORD 'narrow'; GRANT CONNECT ON DATABASE shop TO narrow")
    # a slot waits for transactions that run when it is made, so it comes first
    shop.psql("SELECT pg_create_logical_replication_slot('changes', 'pgoutput')", "shop")
    shop.psql("BEGIN; CREATE TABLE public.held (); PREPARE TRANSACTION 'two phases'", "shop")
    try:
        answer = look(tmp_path, uri(shop, "narrow", "narrow"))
    finally:
        shop.psql("ROLLBACK PREPARED 'two phases'; SELECT pg_drop_replication_slot('changes')", "shop")
        shop.psql("DROP OWNED BY narrow; DROP ROLE narrow", "shop")
    assert answer.code == 0, answer.output
    for code in ("unreadable_tables", "prepared_transaction", "logical_slot", "settings_unreadable"):
        assert f"[{code}]" in answer.output
    stops = re.search(r"First mend what stops a backup: ([^.]*)\.", answer.output)
    assert stops is not None
    assert {"not_readable", "unreadable_tables"} <= set(stops[1].split(", "))


def test_a_backup_that_would_be_refused_is_shown_as_refused(shop: postgres.Server, tmp_path: Path) -> None:
    shop.psql(
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;"
        "CREATE USER MAPPING FOR postgres SERVER elsewhere OPTIONS (password 'of elsewhere')",
        "shop",
    )
    try:
        answer = look(tmp_path, uri(shop))
    finally:
        shop.psql("DROP FOREIGN DATA WRAPPER nothing CASCADE", "shop")
    assert answer.code == 0, answer.output
    assert "REFUSED [dump_holds_secrets]" in answer.output
    assert "of elsewhere" not in answer.output


@pytest.mark.parametrize(
    ("dsn", "code"),
    [
        ("postgresql://visitor:wrong-secret@{host}:{port}/shop", "wrong_password"),
        ("postgresql://visitor:" + ENCODED + "@{host}:{port}/nowhere", "unknown_database"),
        ("postgresql://visitor:wrong-secret@{host}:1/shop", "server_unreachable"),
        ("postgresql://visitor:wrong-secret%@{host}:{port}/shop", "dsn_invalid"),
        ("host={host} port={port} password=wrong-secret no such thing", "dsn_invalid"),
    ],
)
def test_what_cannot_be_reached_is_refused_with_a_code_and_no_password(
    shop: postgres.Server, tmp_path: Path, dsn: str, code: str
) -> None:
    answer = look(tmp_path, dsn.format(host=shop.host, port=shop.port))
    assert answer.code == 1
    assert f"[{code}]" in answer.output
    assert "wrong-secret" not in answer.output
    assert "Traceback" not in answer.output


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_is_named_as_what_it_is(shop: postgres.Server, tmp_path: Path, mode: str) -> None:
    with pgbouncer(shop, mode) as pooler:
        answer = look(
            tmp_path, f"host={shop.host} port={pooler.port} user={shop.user} password={shop.password} dbname=shop"
        )
    assert answer.code == 1
    assert "[pooled_connection]" in answer.output


def test_without_a_dsn_it_says_how_to_name_a_database(tmp_path: Path) -> None:
    answer = look(tmp_path, "")
    assert (answer.code, "make try DSN=" in answer.output) == (2, True)


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    return tmp_path


def test_every_form_of_a_dsn_leads_to_the_same_database(
    shop: postgres.Server, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = private / "services.conf"
    services.write_text(f"[shop]\nhost={shop.host}\nport={shop.port}\nuser=visitor\ndbname=shop\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    escaped = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    plain = f"host={shop.host} port={shop.port} user=visitor dbname=shop"
    tcp = {"host": shop.host, "port": shop.port, "user": "visitor"}
    forms: list[tuple[str, str, dict[str, object]]] = [
        (uri(shop), "", tcp),
        (f"{plain} password='{escaped}'", "", tcp),
        (plain, PASSWORD, tcp),
        ("service=shop", PASSWORD, {"service": "shop"}),
        (f"{plain} sslmode=disable", PASSWORD, {**tcp, "ssl_mode": "disable"}),
        (
            f"host={shop.socket_dir} port={shop.port} user=visitor dbname=shop",
            PASSWORD,
            {"unix_socket": str(shop.socket_dir), "port": shop.port, "user": "visitor"},
        ),
    ]
    for number, (dsn, password, connection) in enumerate(forms):
        folder = private / str(number)
        folder.mkdir()
        if password:
            monkeypatch.setenv("PGPASSWORD", password)
        found = resolve(dsn, folder)
        assert (found.database, found.user, found.had_password) == ("shop", "visitor", True)
        assert found.connection == connection
        assert "PGPASSWORD" not in os.environ
        assert PASSWORD not in str(found)
        assert Path(found.environment["PGPASSFILE"]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("s3://bucket", {"type": "s3", "bucket": "bucket"}),
        ("s3://bucket/a/b/", {"type": "s3", "bucket": "bucket", "prefix": "a/b"}),
        ("/srv/backups", {"path": "/srv/backups"}),
    ],
)
def test_a_store_is_a_folder_or_a_bucket(text: str, store: dict[str, object]) -> None:
    assert store_of(text, "shop") == store


@pytest.mark.parametrize("text", ["s3://", "ftp://host/x"])
def test_a_store_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(OpsError) as refused:
        store_of(text, "shop")
    assert refused.value.code == "store_invalid"


def test_the_collections_path_of_the_lab_is_the_one_that_is_tried() -> None:
    import try_database

    assert Path(try_database.COLLECTIONS) == COLLECTIONS
