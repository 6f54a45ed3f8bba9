# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both directions through ansible-playbook and a real S3 server, against upstream's modules."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Value
from ansible_collections.saasops.runbook.benchmarks.playbooks import Playbooks
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.benchmarks.scene import DATABASE, SYSTEM, FailedError, Scene
from ansible_collections.saasops.runbook.tests.lab import acts, s3

UPSTREAM, OURS = "postgresql_db + s3_object", "ours"
PLAYBOOK = Path(__file__).with_name("upstream.yml")


class _Runs:
    """ansible-playbook with one inventory for both sides."""

    def __init__(self, scene: Scene, server: s3.Server) -> None:
        self.scene, self.server = scene, server
        self.bucket = {UPSTREAM: server.create_bucket(), OURS: server.create_bucket()}
        self.folder = scene.fresh("ansible")
        self.dump = scene.fresh("upstream") / "dump.sql.gz"
        variables = {
            "saasops_system": SYSTEM,
            "saasops_database": DATABASE,
            "saasops_connection": acts.connection(scene.server),
            "saasops_staging": str(scene.staging),
            "saasops_store": {
                "type": "s3",
                "bucket": self.bucket[OURS],
                "endpoint_url": server.endpoint,
                "region": server.region,
                "access_key": server.access_key,
                "secret_key": server.secret_key,
                "path_style": True,
            },
            "bench_bin": str(scene.server.bin),
            "bench_host": scene.server.host,
            "bench_port": scene.server.port,
            "bench_user": scene.server.user,
            "bench_database": DATABASE,
            "bench_dump": str(self.dump),
            "bench_bucket": self.bucket[UPSTREAM],
            "bench_endpoint": server.endpoint,
            "bench_region": server.region,
        }
        self._playbooks = Playbooks(self.folder, variables)

    def play(self, playbook: str, *arguments: str) -> float:
        """Seconds of one ansible-playbook. Raises FailedError with its last lines."""
        return self._playbooks.play(
            playbook,
            *arguments,
            PGPASSFILE=str(self.scene.server.passfile),
            AWS_ACCESS_KEY_ID=self.server.access_key,
            AWS_SECRET_ACCESS_KEY=self.server.secret_key,
            AWS_EC2_METADATA_DISABLED="true",
        )

    def stored(self, side: str) -> int:
        """Bytes in the side's bucket."""
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket[side])
        return sum(item["Size"] for page in pages for item in page.get("Contents", []))

    def empty(self, side: str, prefix: str = "") -> None:
        """Delete what lies in the side's bucket."""
        client = self.server.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket[side], Prefix=prefix):
            for item in page.get("Contents", []):
                client.delete_object(Bucket=self.bucket[side], Key=item["Key"])


def _backup(runs: _Runs, side: str) -> tuple[float, Mapping[str, Value]]:
    arguments = ["saasops.runbook.backup"] if side == OURS else [str(PLAYBOOK), "--tags", "backup"]
    return runs.play(*arguments), {"bytes": runs.stored(side)}


class _LiveName:
    """Watches, through another database, when the live name comes to belong to another database."""

    def __init__(self, scene: Scene) -> None:
        self._original = int((scene.folder / "oid").read_text(encoding="ascii"))
        self._connection = scene.server.connect("postgres")
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.began = time.monotonic()
        self.seconds = 0.0
        self._thread.start()

    def _watch(self) -> None:
        with self._connection.cursor() as cursor:
            while not self._ending.wait(0.02):
                cursor.execute("SELECT oid::bigint FROM pg_database WHERE datname = %s", (DATABASE,))
                row = cursor.fetchone()
                if row is not None and int(row[0]) != self._original:
                    self.seconds = time.monotonic() - self.began
                    return

    def end(self) -> None:
        self._ending.set()
        self._thread.join()
        self._connection.close()


def _restore(runs: _Runs, side: str) -> tuple[float, Mapping[str, Value]]:
    """Seconds from the start of ansible-playbook until the live name belongs to the restored database."""
    ours = ["-e", "switch=true", "-e", json.dumps({"acknowledge": ["staging_on_pgdata"]})]
    arguments = ["saasops.runbook.restore", *ours] if side == OURS else [str(PLAYBOOK), "--tags", "restore"]
    live = _LiveName(runs.scene)
    try:
        whole = runs.play(*arguments)
    finally:
        live.end()
    if not live.seconds:
        raise FailedError("the live database was not exchanged")
    return live.seconds, {"whole_run": round(whole, 3)}


def measure(scene: Scene, pairs: int) -> list[Row]:
    with s3.running() as server:
        runs = _Runs(scene, server)

        def before_backup() -> None:
            for side in (UPSTREAM, OURS):
                runs.empty(side)
            runs.dump.unlink(missing_ok=True)
            scene.settle()

        def before_restore() -> None:
            scene.drop_others()
            runs.empty(OURS, "restores/")
            runs.dump.unlink(missing_ok=True)
            scene.settle()

        backup = interleave(
            {UPSTREAM: lambda: _backup(runs, UPSTREAM), OURS: lambda: _backup(runs, OURS)},
            pairs,
            scene.tell,
            before_backup,
        )
        # one good backup of each side is there for all restores
        before_backup()
        for side in (UPSTREAM, OURS):
            _backup(runs, side)
        restore = interleave(
            {UPSTREAM: lambda: _restore(runs, UPSTREAM), OURS: lambda: _restore(runs, OURS)},
            pairs,
            scene.tell,
            before_restore,
        )
        before_restore()
    command = "ansible-playbook benchmarks/upstream.yml --tags"
    upstream = (
        "Upstream proves: exit codes of pg_dump and gzip, the checksum of each upload on its way; nothing is read"
        " back, and psql goes on after an error while it restores."
    )
    return [
        Row(
            "upstream-backup",
            "Backup to S3 by ansible-playbook",
            backup,
            [Goal("faster than", UPSTREAM, 1.5, OURS)],
            ["Ours proves what it proves in a folder, and reads every object back from S3.", upstream],
            {UPSTREAM: f"{command} backup", OURS: "ansible-playbook saasops.runbook.backup"},
        ),
        Row(
            "upstream-restore",
            "Restore from S3 to a switched database by ansible-playbook",
            restore,
            [Goal("faster than", UPSTREAM, 1.5, OURS)],
            [
                "Time until the live name belongs to the restored database; no clients. Ours: every object checked,"
                " statistics made, rows and catalog compared, then switched. `whole_run` is the time until"
                " ansible-playbook ended: ours has then vacuumed and analyzed the large tables too.",
                upstream,
            ],
            {UPSTREAM: f"{command} restore", OURS: "ansible-playbook saasops.runbook.restore -e switch=true"},
        ),
    ]
