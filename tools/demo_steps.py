# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the demo: run a verb, look at the server with psql, say what was seen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.saasops.runbook.tests.lab.postgres import Server
    from ansible_collections.saasops.runbook.tests.lab.traffic import Prober

VICTIM = "org_acme"


class DemoError(Exception):
    """Something was not as it should be; the text says what, and where the log lies."""


class Demo:
    """One run. Facts are collected for the summary, in the order they were seen."""

    def __init__(self, root: Path, work: Path, megabytes: float, verbose: bool) -> None:
        self.root, self.work, self.megabytes, self.verbose = root, work, megabytes, verbose
        self.facts: list[tuple[str, str]] = []
        self._began = time.monotonic()
        self._steps = 0
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        if self._server is None:
            raise DemoError("The server is not there yet.")
        return self._server

    def say(self, text: str) -> None:
        print(text, flush=True)

    def step(self, title: str) -> None:
        self._steps += 1
        self.say(f"\n\033[1m{self._steps}. {title}\033[0m  [{time.monotonic() - self._began:.0f} s]")

    def fact(self, name: str, text: str) -> None:
        self.facts.append((name, text))
        self.say(f"   {name}: {text}")

    def attach(self, server: Server) -> None:
        """Use this server; its password goes into a file that only the demo's child processes are told of."""
        self._server = server
        passfile = self.work / "pgpass"
        passfile.touch(mode=0o600)
        passfile.write_text(f"*:*:*:*:{server.password}\n", encoding="utf-8")
        (self.work / "store").mkdir()
        self.environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.root),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": server.user,
            "PGPASSFILE": str(passfile),
            "SAASOPS_DEMO_BIN": str(server.bin),
            "SAASOPS_DEMO_STORE": str(self.work / "store"),
            "SAASOPS_DEMO_STAGING": "",
        }

    def ask(self, sql: str, database: str = "demo") -> str:
        """One value, asked by psql."""
        return self.server.psql(sql, database).strip()

    def expect(self, name: str, found: str, wanted: str) -> None:
        if found != wanted:
            raise DemoError(f"{name}: found {found!r}, expected {wanted!r}.")
        self.say(f"   looked: {name}: {found}")

    def activities(self, database: str = "demo") -> str:
        return self.ask(f'SELECT count(*) FROM {VICTIM}."Activity"', database)

    def size(self) -> str:
        return self.ask("SELECT pg_size_pretty(pg_database_size('demo'))")

    def tenants(self) -> str:
        return self.ask("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'org\\_%'")

    def verb(self, name: str, *options: str) -> str:
        """Run a verb as an operator would; returns what it printed. Raises DemoError when it did not exit 0."""
        argv = ["ansible-playbook", f"saasops.runbook.{name}", "-i", "inventories/demo", *options]
        self.say(f"   $ {' '.join(argv)}")
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        log = self.work / f"{self._steps:02d}-{name}.log"
        began = time.monotonic()
        with subprocess.Popen(
            [program, *argv[1:]],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                said = process.communicate()[0]
            except BaseException:
                process.terminate()
                process.wait(20)
                raise
        log.write_text(said, encoding="utf-8")
        if process.returncode != 0:
            raise DemoError(f"{name} ended with exit code {process.returncode}:\n{said[-3000:]}\nThe log: {log}")
        for line in said.splitlines():
            text = line.strip().removesuffix(",").removeprefix('"msg": ').strip('"')
            # what a debug task shows: one sentence, or a list of lines
            if self.verbose or line.startswith(('        "', '    "msg": "')):
                self.say(f"     {text}")
        self.say(f"   ({time.monotonic() - began:.1f} s)")
        return said

    def mark(self) -> None:
        """A row committed right before the backup: the drill measures the RPO from there."""
        self.ask("INSERT INTO public.marker (writer) VALUES ('demo')")

    def accident(self) -> None:
        """What somebody does by mistake: visible in the live database, not in the sets."""
        self._activities = self.activities()
        self.ask(f'UPDATE {VICTIM}."Order" SET amount = 0')
        self.ask(f'DELETE FROM {VICTIM}."Activity"')
        self.expect("activities left", self.activities(), "0")

    def restored_is_beside(self) -> None:
        beside = self.ask("SELECT datname FROM pg_database WHERE datname LIKE 'demo_restore_%'")
        self.expect("activities in the copy", self.activities(beside), self._activities)
        self.expect("the live database is untouched", self.activities(), "0")

    def clients(self) -> AbstractContextManager[Prober]:
        from ansible_collections.saasops.runbook.tests.lab.traffic import Prober

        return Prober(self.server.dsn("demo"))

    def switched(self, gap: float) -> None:
        self.expect("activities are back", self.activities(), self._activities)
        self.fact("switch", f"largest gap for clients that connect every 10 ms: {gap:.2f} s")

    def undone(self) -> None:
        self.expect("the accident is back too", self.activities(), "0")

    def tenant(self) -> None:
        others = self.ask("SELECT count(*) FROM public.tenants")
        self.verb("restore_tenant", "-e", f"tenant={VICTIM}")
        self.expect("activities are back", self.activities(), self._activities)
        self.expect("the shared table is as it was", self.ask("SELECT count(*) FROM public.tenants"), others)

    def drill(self) -> None:
        from ansible_collections.saasops.runbook.tests.lab.traffic import Writer

        # somebody goes on committing, so that there is something to lose
        with Writer(self.server.dsn("demo"), pause=0.05):
            said = self.verb("restore_drill")
        line = next((item for item in said.splitlines() if "Drill passed" in item), "")
        if not line:
            raise DemoError("The drill did not say that it passed.")
        self.fact("drill", line.strip().removeprefix('"msg": ').strip('"'))

    def comparison(self) -> None:
        from comparison import compare, table

        self.say(table(compare(self.server, self.work / "comparison")))

    def summary(self) -> None:
        store = sum(path.stat().st_size for path in (self.work / "store").rglob("*") if path.is_file())
        self.fact("store", f"{store / 1e6:.0f} MB in {len(list((self.work / 'store' / 'backups').iterdir()))} sets")
        self.say("\n\033[1mSummary\033[0m")
        for name, text in self.facts:
            self.say(f"  {name:10} {text}")
        self.say(f"  {'time':10} {time.monotonic() - self._began:.0f} s; logs in .cache/demo, the server is stopped")
