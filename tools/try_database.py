# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at one's own database, read only and without an inventory: make try DSN=postgresql://me@host/name [STORE=...].

The real playbooks run in check mode: what a backup would do, how old the newest recovery point is, what needs
attention, and the next command. Nothing is written to the server: its sessions are read only.
DSN and STORE come from the environment, so that no password stands in an argument.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# in a checkout the collection is laid out below it; the laid-out tree is that place itself
COLLECTIONS = ROOT.parents[2] if ROOT.parts[-3:] == ("ansible_collections", "saasops", "runbook") else ROOT
for place in (COLLECTIONS, ROOT / "tools"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from ansible_run import Result, Said, UnusableError, run  # noqa: E402

USAGE = """Name a database: make try DSN=postgresql://me@db.example/app

  DSN    a URI, 'host=... dbname=...', or service=name; a password is better in ~/.pgpass or PGPASSWORD
  STORE  where backups are kept, if they are: a folder, or s3://bucket/prefix (credentials as boto3 finds them)
  SYSTEM name of the system that the store's sets belong to; the database's name by default"""
# all runs go on at the same time; with the rest it stays under a minute
SECONDS = 45.0


def _width() -> int:
    return min(shutil.get_terminal_size((110, 24)).columns, 120)


def _say(text: str = "", indent: str = "  ") -> None:
    print(textwrap.fill(text, _width(), initial_indent=indent, subsequent_indent=indent) if text else "", flush=True)


def _title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def _client_bin(version: int) -> str:
    """A folder with client programs that are new enough, "" when those on the search path are.

    version: server_version_num.
    """
    found = shutil.which("pg_dump")
    if found:
        done = subprocess.run([found, "--version"], capture_output=True, encoding="utf-8", check=False)
        major = re.search(r"(\d+)", done.stdout)
        if done.returncode == 0 and major and int(major.group(1)) >= version // 10000:
            return ""
    from ansible_collections.saasops.runbook.tests.lab import binaries

    return str(binaries.find(18))


def _backup(said: Said) -> None:
    _title("What a backup would do")
    result = said.results.get("saasops.runbook.pg_backup", {})
    if not said.ok:
        _say(f"REFUSED {said.message}")
        return
    plan = result.get("plan")
    for action in plan.get("actions", []) if isinstance(plan, dict) else []:
        numbers = action["measured"]
        _say(f"{action['kind']} {action['object']}: {numbers['tables']} tables, {_size(numbers['bytes'])}")
        _say(action["reason"], "    ")
    for warning in plan.get("warnings", []) if isinstance(plan, dict) else []:
        _say(f"Warning: {warning}")


def _size(size: int) -> str:
    from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size

    return human_size(size)


def _recovery_point(said: Said | None) -> None:
    _title("The newest recovery point")
    if said is None:
        _say("No store was named (STORE=/path or STORE=s3://bucket/prefix): nothing is known of backups.")
        return
    result = said.results.get("saasops.runbook.pg_backup_info", {})
    if not result or "lines" not in result:
        _say(f"REFUSED {said.message}")
        return
    for line in _lines(result):
        print(f"  {line}" if line else "", flush=True)


def _lines(result: Result) -> list[str]:
    lines = result.get("lines")
    return [str(line) for line in lines] if isinstance(lines, list) else []


def _attention(said: Said, database: str, notes: Sequence[str]) -> None:
    _title("What needs attention")
    if not said.ok:
        _say(f"REFUSED {said.message}")
        return
    result = said.results.get("saasops.runbook.pg_discover_info", {})
    server, found = result.get("server"), result.get("databases")
    attention = (
        [item for entry in found if entry["name"] == database for item in entry["attention"]]
        if isinstance(found, list)
        else []
    )
    for item in attention:
        _say(f"[{item['code']}]{' (' + item['stops'] + ' refuses)' if item['stops'] else ''} {item['text']}")
        _say(item["remedy"], "    ")
    for hint in server.get("hints", []) if isinstance(server, dict) else []:
        _say(hint)
    for note in notes:
        _say(note)
    if not attention and not notes:
        _say("Nothing.")


def _inventory(system: str, database: str, connection: Mapping[str, object], store: Mapping[str, object]) -> str:
    from ansible_collections.saasops.runbook.plugins.module_utils.domain.draft import Draft, host_name, render

    name = host_name(system, [])
    variables = {
        "ansible_connection": "local",
        "saasops_database": database,
        "saasops_connection": dict(connection),
        "saasops_store": dict(store),
    }
    if name != system:
        variables["saasops_system"] = system
    text = render([], [Draft(name, "", variables)])
    # a template on purpose: the Python that has psycopg2 is the one that runs Ansible
    own = '      ansible_python_interpreter: "{{ ansible_playbook_python }}"\n'
    line = "      ansible_connection: local\n"
    return text.replace(line, line + own)


def _stops(answers: tuple[Said, Said], database: str) -> list[str]:
    """Codes of what stops a backup."""
    backup, look = answers
    found = look.results.get("saasops.runbook.pg_discover_info", {}).get("databases")
    codes = [] if backup.ok else [backup.code or "failed"]
    for entry in found if isinstance(found, list) else []:
        if entry["name"] == database:
            codes += [item["code"] for item in entry["attention"] if item["stops"] == "backup"]
    return list(dict.fromkeys(codes))


def _command(program: Path) -> str:
    """A program as one types it: from here when it is below, otherwise from the root on."""
    shown = os.path.relpath(program)
    return shlex.quote(str(program) if shown.startswith("..") else shown)


def _next(text: str, system: str, had_password: bool, stops: Sequence[str]) -> None:
    from ansible_collections.saasops.runbook.plugins.module_utils.domain.draft import host_name

    _title("The next command")
    folder = ROOT / ".cache" / "try"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{host_name(system, [])}.yml"
    path.write_text(text, encoding="utf-8")
    shown = _command(path)
    if stops:
        _say(f"First mend what stops a backup: {', '.join(stops)}. Then go on.")
    _say(f"This inventory is in {shown}; copy it to where you keep such things.")
    print("\n" + textwrap.indent(text.rstrip(), "    ") + "\n", flush=True)
    if had_password:
        _say("The password is not in it: put it into ~/.pgpass, or see docs/passwords.md for four other ways.")
    program = _command(Path(sys.executable).with_name("ansible-playbook"))
    print(
        f"    ANSIBLE_COLLECTIONS_PATH={shlex.quote(str(COLLECTIONS))} {program} saasops.runbook.backup -i {shown}",
        flush=True,
    )


def _look(dsn: str, store_text: str, system: str, folder: Path) -> int:
    from try_dsn import resolve, store_of

    began = time.monotonic()
    found = resolve(dsn, folder)
    store = store_of(store_text, found.database)
    system = system or found.database
    client_bin = _client_bin(found.version)
    connection = {**found.connection, **({"client_bin": client_bin} if client_bin else {})}
    version = found.version
    text = f"{version // 10000}.{version % 10000}" if version >= 100000 else str(version)
    print(f"PostgreSQL {text} at {found.address}, database {found.database}, as {found.user}; read only", flush=True)
    variables = {
        "saasops_system": system,
        "saasops_database": found.database,
        "saasops_connection": connection,
        "saasops_store": store,
    }
    environment = {**found.environment, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}

    def verb(name: str, *arguments: str) -> Callable[[], Said]:
        return lambda: run(
            f"saasops.runbook.{name}", {"try": variables}, ["--check", *arguments], folder, name, environment, SECONDS
        )["try"]

    with ThreadPoolExecutor(3) as pool:
        attention = pool.submit(verb("discover", "-e", f"database={_extra(found.database)}"))
        backup = pool.submit(verb("backup"))
        sets: Future[Said] | None = (
            pool.submit(verb("backups", "-e", f"database={_extra(found.database)}")) if store_text else None
        )
        answers = backup.result(), None if sets is None else sets.result(), attention.result()
    notes = []
    if client_bin:
        notes.append(
            f"This machine's own pg_dump is missing or older than the server: the PostgreSQL client package of version"
            f" {version // 10000} or newer is needed; meanwhile {client_bin} is used."
        )
    _backup(answers[0])
    _recovery_point(answers[1])
    _attention(answers[2], found.database, notes)
    _next(
        _inventory(system, found.database, connection, store),
        system,
        found.had_password,
        _stops((answers[0], answers[2]), found.database),
    )
    print(f"\n{time.monotonic() - began:.0f} s; nothing was written to the server", flush=True)
    return 0


def _extra(value: str) -> str:
    """A value of -e name=value, quoted as Ansible reads it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main() -> int:
    dsn, store, system = (os.environ.pop(name, "") for name in ("DSN", "STORE", "SYSTEM"))
    if not dsn:
        print(USAGE, file=sys.stderr)
        return 2
    if COLLECTIONS == ROOT:
        from tree import lay_out

        lay_out(ROOT / "ansible_collections" / "saasops" / "runbook")
    from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

    with tempfile.TemporaryDirectory(prefix="saasops-try-") as folder:
        try:
            return _look(dsn, store, system, Path(folder))
        except OpsError as error:
            print(f"REFUSED {error.message}", file=sys.stderr)
        except UnusableError as error:
            print(error, file=sys.stderr)
        except KeyboardInterrupt:
            print("\nInterrupted; nothing was written to the server.", file=sys.stderr)
            return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
