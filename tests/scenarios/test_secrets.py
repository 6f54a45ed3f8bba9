# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known values in every parameter that takes a secret are found nowhere, whatever the verbs do or suffer."""

from __future__ import annotations

import glob
import importlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins import modules
from ansible_collections.saasops.runbook.plugins.module_utils.domain.secrets import SECRETS
from ansible_collections.saasops.runbook.tests.lab import alertmanager, s3
from ansible_collections.saasops.runbook.tests.lab.pgbouncer import PgBouncer, pgbouncer
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, start, start_file
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.spy import Spy, in_files, wait_for
from ansible_collections.saasops.runbook.tests.lab.watcher import Watcher

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

DATABASE, TENANT = "vault", "org_a"
TIMER_PASSWORD = "planted-of-timer-4714"
CHECK_SECRET = "planted-of-checks-4715"
MASKED = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
MODULES = Path(next(iter(modules.__path__)))
# keeps every result as other callbacks get it, with the parameters in it
KEEPER = """
import json, os
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "keeper"
    def _keep(self, result, **_more):
        action = getattr(result, "_task", None) or result.task
        body = getattr(result, "_result", None) or result.result
        with open(os.environ["KEEPER_FILE"], "a") as out:
            out.write(json.dumps([str(action.action), dict(body)], default=str) + "\\n")
    v2_runner_on_ok = v2_runner_on_failed = v2_runner_item_on_ok = v2_runner_item_on_failed = _keep
"""


def leaves(spec: Mapping[str, Mapping[str, object]], path: str = "") -> Iterator[str]:
    """The paths of all options that are not logged."""
    for name, body in spec.items():
        here = f"{path}.{name}" if path else name
        if body.get("no_log"):
            yield here
        inner = body.get("options")
        if isinstance(inner, Mapping):
            yield from leaves(inner, here)


def every_secret() -> set[str]:
    """module path, of all modules, from their argument specs."""
    found = set()
    for file in MODULES.glob("*.py"):
        spec = importlib.import_module(f"{modules.__name__}.{file.stem}").SPEC
        found |= {f"{file.stem} {path}" for path in leaves(spec)}
    return found


def masked(values: object, path: str = "") -> Iterator[str]:
    """The paths under which a result says that a secret was given."""
    if isinstance(values, dict):
        # a bag of secrets, whose names are the operator's
        if values and all(value == MASKED for value in values.values()):
            yield path
        for name, value in values.items():
            yield from masked(value, f"{path}.{name}" if path else str(name))
    elif isinstance(values, list):
        for value in values:
            yield from masked(value, path)
    elif values == MASKED:
        yield path


@dataclass
class Vault:
    """A system whose every part asks for a secret."""

    server: Server
    folder: Path
    variables: dict[str, object]
    planted: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> Path:
        return self.folder / "results.jsonl"

    def begin(self, verb: str, *arguments: str, **more: object) -> subprocess.Popen[str]:
        """Start a verb as an operator does who wants to see everything."""
        hosts = inventory(self.folder, {**self.variables, **more}, {"one": {}, "two": {"saasops_host": 2}})
        limit = [] if verb == "everywhere" else ["--limit", "one"]
        if verb == "others":
            file = self.folder / "others.yml"
            file.write_text(OTHERS, encoding="utf-8")
            return start_file(file, hosts, "-vvvv", "--diff", *limit)
        return start("backup" if verb == "everywhere" else verb, hosts, "-vvvv", "--diff", *limit, *arguments)

    def run(self, verb: str, *arguments: str, **more: object) -> Run:
        given = [argument.replace("NEWEST", self.newest()) for argument in arguments]
        with self.begin(verb, *given, **more) as process:
            output, _none = process.communicate(timeout=120)
        self.outputs[f"{verb} {' '.join(arguments)} {len(self.outputs)}"] = output
        return Run(process.returncode, output)

    def newest(self) -> str:
        """The id of the newest set, as the outputs name it."""
        return max(re.findall(r'"set": "([^"]+)"', "".join(self.outputs.values())), default="")

    def given(self) -> set[str]:
        """module path of all secrets that modules were given, as their results say."""
        found = set()
        for line in self.kept.read_text(encoding="utf-8").splitlines():
            action, body = json.loads(line)
            arguments = body.get("invocation", {}).get("module_args", {})
            found |= {f"{action.rpartition('.')[2]} {path}" for path in masked(arguments)}
        return found

    def look(self, spy: Spy) -> None:
        """Everything that outlives a run."""
        for name, output in self.outputs.items():
            spy.read(output.encode(), f"the output of {name}")
        spy.read(self.server.log.read_bytes(), "PostgreSQL's log")
        own = [self.folder / "inventory.yml", self.folder / "all.yml"]
        spy.hits |= set(in_files(spy.planted, self.folder, without=own))
        places = [Path.home() / ".ansible", *_temporary()]
        for place in places:
            spy.hits |= set(in_files(spy.planted, place))


def _temporary() -> list[Path]:
    places = ("/tmp", "/var/tmp", "/dev/shm")
    beginnings = [f"{place}/{part}" for place in places for part in ("saasops", "ansible")]
    found = [Path(name) for beginning in beginnings for name in glob.glob(f"{beginning}*")]
    # the lab's own servers lie there, with their configuration
    return [path for path in found if not path.name.startswith("saasops-lab")]


@pytest.fixture
def pooler(server: Server) -> Iterator[PgBouncer]:
    with pgbouncer(server, "transaction", f"{DATABASE} = {{server}}") as running:
        yield running


@pytest.fixture
def alerts() -> Iterator[alertmanager.Server]:
    with alertmanager.running() as running:
        yield running


def _care(folder: Path) -> dict[str, object]:
    """What the verbs that look after a database are told; every check and the migrator have a secret."""
    (folder / "migrations").mkdir()
    (folder / "migrations" / "001_seen.sql").write_text("ALTER TABLE org_a.u ADD COLUMN seen date;", encoding="utf-8")
    nowhere = {
        "url": "http://127.0.0.1:9",
        "url_username": "u",
        "url_password": CHECK_SECRET,
        "bearer_token": CHECK_SECRET,
    }
    rows = {"table": "u", "schemas": ["org_a"]}
    fix = {
        **rows, "name": "see", "parameters": [{"name": "id", "type": "integer"}], "where": "t.id = :id",
        "requires": [{"condition": "true", "says": "never"}], "set": {"id": ":id + 1000"},
    }  # fmt: skip
    return {
        "saasops_checks": [
            {"name": "rows", "sql": {"query": "SELECT count(*) FROM t"}, "warning": "> 1000"},
            {"name": "asks_http", "http": {**nowhere, "api_key": CHECK_SECRET}, "warning": "!= 200"},
            {"name": "asks_promql", "promql": {**nowhere, "query": "up"}, "warning": "< 1"},
            {"name": "asks_redis", "redis": {"port": 9, "password": CHECK_SECRET}, "warning": "!= 'x'"},
        ],
        "saasops_check_sets": {"daily": ["rows", "asks_*"]},
        "saasops_indexes": [{**rows, "name": "u_again", "columns": ["id"], "unique": True}],
        "saasops_migrations": {"folder": str(folder / "migrations"), "backup": "off", "staging": "off"},
        "saasops_repairs": [fix],
        "saasops_purge_rules": [{**rows, "name": "old", "where": "t.id BETWEEN 40 AND 45"}],
    }


@pytest.fixture
def vault(
    server: Server, server18: Server, s3_server: s3.Server, pooler: PgBouncer, tmp_path: Path,
    alerts: alertmanager.Server, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Vault]:  # fmt: skip
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "keeper.py").write_text(KEEPER, encoding="utf-8")
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", str(plugins))
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "keeper,saasops.runbook.witness")
    monkeypatch.setenv("KEEPER_FILE", str(tmp_path / "results.jsonl"))
    # from 2.21 on results say what modules were given only when they are asked to
    monkeypatch.setenv("ANSIBLE_INJECT_INVOCATION", "1")
    passwords = {"password": "planted-of-keeper-4711", "drill password": "planted-of-driller-4712"}
    for place, name, role in ((server, "password", "keeper"), (server18, "drill password", "driller")):
        place.psql(f"DROP ROLE IF EXISTS {role}")
        place.psql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{passwords[name]}'")
    server.dropdb(DATABASE)
    server.psql(f"CREATE DATABASE {DATABASE}")
    server.psql(
        "CREATE TABLE t AS SELECT generate_series(1, 100) AS id; CREATE SCHEMA org_a;"
        "CREATE TABLE org_a.u (id int PRIMARY KEY); INSERT INTO org_a.u SELECT generate_series(1, 50)",
        DATABASE,
    )
    server.psql("ALTER SYSTEM SET log_statement = 'all'")
    server.reload()

    def bucket() -> dict[str, object]:
        return {
            "type": "s3", "bucket": s3_server.create_bucket(), "endpoint_url": s3_server.endpoint, "retries": 1,
            "region": s3_server.region, "access_key": s3_server.access_key, "secret_key": s3_server.secret_key,
        }  # fmt: skip

    def login(place: Server, user: str, password: str) -> dict[str, object]:
        return {
            "host": place.host, "port": place.port, "user": user, "password": password, "client_bin": str(place.bin)
        }  # fmt: skip

    store = bucket()
    quiet = {"url": alerts.url, "url_username": "guard", "url_password": "planted-of-silence-4713"}
    with Watcher() as watcher:
        variables: dict[str, object] = {
            "saasops_system": DATABASE,
            "saasops_database": DATABASE,
            "saasops_connection": login(server, "keeper", passwords["password"]),
            "saasops_drill_connection": login(server18, "driller", passwords["drill password"]),
            "saasops_store": store,
            "saasops_store_copies": [bucket()],
            "saasops_journal_anchor": bucket(),
            "saasops_poolers": [pooler.option()],
            "saasops_heartbeat_url": watcher.url,
            "saasops_retention": {"daily": 1, "minimum_proven": 1},
            "saasops_rescue_connection": login(server, "keeper", passwords["password"]),
            "saasops_migration_secrets": {"TOKEN": CHECK_SECRET},
            **_care(tmp_path),
            # it asks for no login, and is given one
            "saasops_silence": {**quiet, "matchers": [{"name": "instance", "value": "vault"}]},
            "alerts": quiet,
            "timer_pgpass": f"h:5432:*:u:{TIMER_PASSWORD}",
        }
        planted = {
            "silence password": str(quiet["url_password"]),
            "check secret": CHECK_SECRET,
            "timer password": TIMER_PASSWORD,
            **passwords,
            "pooler password": pooler.password,
            "access key": s3_server.access_key,
            "secret key": s3_server.secret_key,
            "heartbeat": watcher.secret,
        }
        yield Vault(server, tmp_path, variables, planted)
    server.psql("ALTER SYSTEM RESET log_statement")
    server.reload()
    for name in server.psql("SELECT datname FROM pg_database WHERE datname LIKE 'vault%'").split():
        server.dropdb(name)
    for place, role in ((server, "keeper"), (server18, "driller")):
        place.psql(f"DROP ROLE IF EXISTS {role}")


def objects(server: s3.Server, spy: Spy, stores: list[object]) -> int:
    """Look into every object of these stores; how many there are."""
    client, count = server.client(), 0
    for store in stores:
        assert isinstance(store, dict)
        for item in client.list_objects_v2(Bucket=store["bucket"]).get("Contents", []):
            body = client.get_object(Bucket=store["bucket"], Key=item["Key"])["Body"].read()
            spy.read(item["Key"].encode() + body, f"object {item['Key']}")
            count += 1
    return count


# restore_drill comes before restore: on another server it has nothing in its way
WELL = (
    ("backup",),
    ("everywhere", "-e", "key=second"),
    ("backups",),
    ("copy",),
    ("pin", "-e", "set=NEWEST", "-e", "reason=kept"),
    ("discover",),
    ("restore_drill",),
    ("restore", "-e", "switch=true"),
    ("undo",),
    ("backup", "-e", "key=third"),
    ("restore_finish",),
    ("restore_tenant", "-e", "tenant=org_a"),
    ("prune",),
    ("hold", "-e", "reason=repair"),
    ("hold", "-e", "state=released"),
    ("triage",),
    ("health", "-e", "only=rows,asks_*"),
    ("checks", "-e", "set=daily"),
    ("sessions",),
    ("maintenance",),
    ("index",),
    ("migrate", "-e", "baseline=0"),
    ("repair", "-e", "fix=see", "-e", "id=7", "-e", "reason=seen"),
    ("cleanup",),
    ("integrity",),
    ("reconcile",),
    ("status",),
    ("journal_verify",),
    ("report",),
    ("others",),
)
# they look, or find nothing left to do: a store that lets nobody in does not keep them from it
NEED_NO_STORE = ("triage", "health", "checks", "sessions", "index", "repair")
# modules that no verb gives every secret to; the timer in check mode, because one of systemd would stay
OTHERS = """
- hosts: all
  gather_facts: false
  tasks:
    - name: A timer, which needs systemd
      saasops.runbook.expiry_timer:
        system: vault
        id: planted
        at: "2099-12-31T22:00:00Z"
        argv: [/bin/true]
        pgpass: "{{ timer_pgpass }}"
        store: "{{ saasops_store }}"
      check_mode: true
      ignore_errors: true
    - name: A silence
      saasops.runbook.alertmanager_silence:
        system: vault
        alertmanager: "{{ alerts }}"
        matchers: "{{ saasops_silence.matchers }}"
        comment: planted
        duration: 1h
        store: "{{ saasops_store }}"
      ignore_errors: true
    - name: What a run did
      saasops.runbook.guard_run_info:
        system: vault
        run: 20261122T201747Z-1a2b3c4d
        store: "{{ saasops_store }}"
      ignore_errors: true
    - name: Close
      saasops.runbook.admission:
        step: close
        verb: backup
        system: vault
        store: "{{ saasops_store }}"
      ignore_errors: true
"""
# they are given like all others, but nobody says so: a silence has no silence around it, and what reconcile finds
# in its first look stands in no result
UNSAID = {
    "alertmanager_silence guard_silence.bearer_token",
    "alertmanager_silence guard_silence.url_password",
    "guard_reconcile guard_anchor.session_token",
    "guard_reconcile guard_silence.bearer_token",
    "guard_reconcile store.session_token",
}


# some forty runs at the highest verbosity
@pytest.mark.timeout(1200)
def test_no_verb_shows_or_leaves_a_secret_whether_it_does_well_or_is_refused(
    vault: Vault, s3_server: s3.Server
) -> None:
    wrong = {
        "wrong password": "planted-wrong-password-1",
        "wrong access key": "PLANTEDWRONGKEY1",
        "wrong secret key": "planted-wrong-secret-1",
        "wrong token": "planted-wrong-token-1",
    }
    keys = {
        "access_key": wrong["wrong access key"],
        "secret_key": wrong["wrong secret key"],
        "session_token": wrong["wrong token"],
    }
    folders = [vault.folder / "ansible"]
    with Spy({**vault.planted, **wrong}, folders) as spy:
        failed = [
            f"{verb}: {run.output[-1500:]}"
            for verb, *arguments in WELL
            if (run := vault.run(verb, *arguments, **_hosts(verb))).code != 0
        ]
        assert failed == []
        asks: dict[str, object] = {"saasops_approval": {"verbs": ["backup"]}}
        refused = vault.run("backup", "-e", "key=fourth", **asks)
        assert "[approval_required]" in refused.output
        plan = refused.output.partition("approve -e plan=")[2].split()[0].strip("'\"\\.,")
        assert vault.run("approve", "-e", f"plan={plan}", "-e", "guard_by=berta", **asks).code == 0
        assert "[lease_unknown]" in vault.run("unlock", "-e", "reason=x", "-e", "lease=database:none").output

        def wronged(name: str) -> object:
            found = vault.variables[name]
            return [{**item, **keys} for item in found] if isinstance(found, list) else {**dict(found), **keys}  # type: ignore[call-overload]

        bad: dict[str, object] = {
            name: wronged(name) for name in ("saasops_store", "saasops_store_copies", "saasops_journal_anchor")
        }
        bearer = {"url": "http://127.0.0.1:9", "bearer_token": wrong["wrong token"]}
        bad["saasops_silence"] = {**bearer, "matchers": [{"name": "instance", "value": "vault"}]}
        vault.run("others", alerts=bearer, **bad)
        for verb, *arguments in WELL:
            if verb not in ("discover", "others"):
                run = vault.run(verb, *arguments, **_hosts(verb), **bad)
                assert verb in NEED_NO_STORE or run.code != 0, verb
        for verb in ("approve", "unlock"):
            vault.run(verb, "-e", "plan=x", "-e", "reason=x", **bad)
        assert isinstance(vault.variables["saasops_connection"], dict)
        login = {**vault.variables["saasops_connection"], "password": wrong["wrong password"]}
        for verb in ("backup", "restore", "undo", "restore_tenant", "discover"):
            assert vault.run(verb, "-e", "tenant=org_a", saasops_connection=login).code != 0, verb
        vault.look(spy)
    assert spy.looks > 100
    stores = [vault.variables["saasops_store"], vault.variables["saasops_journal_anchor"]]
    assert isinstance(vault.variables["saasops_store_copies"], list)
    assert objects(s3_server, spy, [*stores, *vault.variables["saasops_store_copies"]]) > 20
    assert sorted(spy.hits) == []
    # a parameter that is new must be planted here: otherwise nobody looked for it
    missed = every_secret() - vault.given() - UNSAID
    assert sorted(missed) == []
    assert {re.split(r"[ .]", path)[-1] for path in every_secret()} == SECRETS


def _hosts(verb: str) -> dict[str, object]:
    """Two hosts of one database must not meet in one lease."""
    return {"saasops_batch": 1} if verb == "everywhere" else {}


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(child) for child in children] + [more for child in children for more in _descendants(int(child))]


def _modules_of(pid: int) -> list[int]:
    """Processes that run a module that came on standard input: Python without arguments."""
    found = []
    for child in _descendants(pid):
        words = Path(f"/proc/{child}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if len(words) == 1 and b"python" in words[0]:
            found.append(child)
    return found


@pytest.mark.parametrize("victim", ["module", "controller"])
def test_a_killed_run_leaves_no_secret(vault: Vault, victim: str, s3_server: s3.Server) -> None:
    with Spy(vault.planted, [vault.folder / "ansible"]) as spy:
        with vault.server.connect(DATABASE) as blocker, blocker.cursor() as cursor:
            cursor.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            with vault.begin("backup") as process:
                waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted"
                wait_for(lambda: vault.server.psql(waiting).strip() != "0", 60)
                found = _modules_of(process.pid)
                assert found
                for pid in found if victim == "module" else [process.pid]:
                    os.kill(pid, signal.SIGKILL)
                if victim == "controller":
                    # its workers and modules live on, and would wait for the table
                    os.killpg(process.pid, signal.SIGKILL)
                output, _none = process.communicate(timeout=60)
            vault.outputs["killed"] = output
        vault.look(spy)
    objects(s3_server, spy, [vault.variables["saasops_store"]])
    assert sorted(spy.hits) == []


TASK = """
- hosts: one
  gather_facts: false
  tasks:
    - name: List
      saasops.runbook.pg_backup_info:
        system: vault
        store: "{{ saasops_store }}"
"""


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"ansible_pipelining": False}, "pipelining is off"),
        ({"ansible_become": True, "ansible_become_method": "su"}, "su cannot pipeline"),
    ],
    ids=["off", "su"],
)
def test_a_secret_does_not_travel_without_pipelining(
    server: Server, tmp_path: Path, variables: Mapping[str, object], why: str
) -> None:
    folder = {"path": str(tmp_path)}
    key = {"type": "s3", "bucket": "b", "access_key": "planted-1", "secret_key": "planted-2"}

    def listing(store: Mapping[str, object], **more: object) -> str:
        file = tmp_path / "own.yml"
        file.write_text(TASK, encoding="utf-8")
        hosts = inventory(tmp_path, {"saasops_store": store, **variables, **more}, {"one": {}})
        with start_file(file, hosts, "-vvvv") as process:
            output, _none = process.communicate(timeout=60)
        return output

    said = listing(key)
    assert "[pipelining_required]" in said
    assert "store.access_key, store.secret_key" in said
    assert "planted" not in said
    assert why in said
    # and a run without any secret is not bothered
    assert "[pipelining_required]" not in listing(folder)
