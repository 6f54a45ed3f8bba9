# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""16 writers on a live database, or a prober that connects anew every 10 ms: a process beside a switch.

Arguments as one line of JSON on stdin: {"kind": "writers" | "prober", "dsn": ..., "count": ...}; says "ready",
works until stdin is closed, then says what it saw as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import psycopg2

from ansible_collections.saasops.runbook.tests.lab.traffic import Prober, Writer


class SwitchProber(Prober):
    """Notes when it first reached another database under the same name.

    switched: time.monotonic() of the first answer from a database with another oid; 0.0 before. This clock is the
    same in every process of the machine.
    """

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, question="SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
        self._oid = 0
        self.switched = 0.0

    def _ask(self) -> None:
        connection = psycopg2.connect(self._dsn, connect_timeout=2)
        try:
            with connection.cursor() as cursor:
                cursor.execute(self._question)
                row = cursor.fetchone()
                assert row is not None
                if self._oid and int(row[0]) != self._oid:
                    self.switched = time.monotonic()
                self._oid = int(row[0])
        finally:
            connection.close()


def main() -> int:
    given = json.loads(sys.stdin.readline())
    if given["kind"] == "prober":
        prober = SwitchProber(given["dsn"])
        with prober:
            _until_told()
        said = {
            "largest_gap": prober.largest_gap,
            "switched": prober.switched,
            "succeeded": prober.succeeded,
            "failures": len(prober.failures),
        }
    else:
        writers = [Writer(given["dsn"], f"writer {number}", pause=0.01) for number in range(given["count"])]
        with contextlib.ExitStack() as stack:
            for writer in writers:
                stack.enter_context(writer)
            _until_told()
        said = {
            "committed": sum(len(writer.committed) for writer in writers),
            "refused": sum(writer.refused for writer in writers),
        }
    print(json.dumps(said))
    return 0


def _until_told() -> None:
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    sys.exit(main())
