# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a real server, a real database, the real playbooks, and a look at the result by psql after each.

Nothing is asserted by the verbs alone: every step is followed by a question to the server that the verb does not
ask. A step that is not as it should be ends the demo with its log.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

from demo_steps import Demo, DemoError  # noqa: E402

from tree import lay_out  # noqa: E402

COLLECTION = ROOT / "ansible_collections" / "saasops" / "runbook"
MEGABYTES = 300


def _story(demo: Demo) -> None:
    """The whole road, from the first backup to a clean store."""
    demo.step("Back up: one snapshot under locks, parallel, every byte read back")
    demo.mark()
    demo.verb("backup")
    demo.verb("backup", "-e", "tenants=org_a*")
    demo.step("List: age, size, proof, and the recovery point against the RPO")
    demo.verb("backups")

    demo.step("An accident: every amount of an order overwritten, a tenant's activities gone")
    demo.accident()

    demo.step("Restore beside the live database, which goes on serving; compare with the set")
    demo.verb("restore")
    demo.restored_is_beside()
    demo.step("Switch: both renames in one transaction, while clients connect all the time")
    with demo.clients() as clients:
        demo.verb("restore", "-e", "switch=true")
    demo.switched(clients.largest_gap)
    demo.step("Undo: the database from before the switch is live again")
    demo.verb("undo")
    demo.undone()

    demo.step("Restore one tenant alone, the others go on")
    demo.tenant()
    demo.step("Drill: a scratch database, compared by pg_dump's own words; RTO and RPO")
    demo.drill()
    demo.step("Retention: what stays, what goes, and why")
    demo.verb("prune", "--check")
    demo.step("Why not thirty lines of upstream modules: the same faults through both")
    demo.comparison()


def _run(demo: Demo) -> int:
    from ansible_collections.saasops.runbook.tests.lab import postgres
    from ansible_collections.saasops.runbook.tests.lab.demo import Parameters, create

    demo.say("Starting PostgreSQL 18 and creating the system demo ...")
    with postgres.running(18, durable=True) as server:
        began = time.monotonic()
        create(server, "demo", parameters=Parameters(megabytes=demo.megabytes))
        demo.attach(server)
        demo.fact("database", f"{demo.size()} in {demo.tenants()} tenants, made in {time.monotonic() - began:.0f} s")
        _story(demo)
    demo.summary()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Back up, prove, restore, switch and undo a real database.")
    parser.add_argument("--megabytes", type=float, default=MEGABYTES, help="size of the demo database")
    parser.add_argument("--verbose", action="store_true", help="show everything that ansible-playbook prints")
    options = parser.parse_args(arguments)
    # Ctrl-C and a closed terminal end the server too: both become an exception that leaves every `with`
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    lay_out(COLLECTION)
    work = ROOT / ".cache" / "demo"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.chdir(ROOT)
    demo = Demo(ROOT, work, options.megabytes, options.verbose)
    try:
        return _run(demo)
    except KeyboardInterrupt:
        print("\nInterrupted; the server is stopped.", file=sys.stderr)
        return 130
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
