# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs backups and prune on a bucket; what they claim is looked up with a client that shares no code with them."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, files, make_set
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play


def test_prune_and_backups_work_on_a_bucket_and_name_no_secret(s3_server: s3.Server, tmp_path: Path) -> None:
    now = time.time()
    ids = [make_set(tmp_path / "store", now - HOUR - day * DAY) for day in reversed(range(5))]
    bucket = s3_server.create_bucket()
    client = s3_server.client()
    for path in files(tmp_path / "store"):
        client.upload_file(str(path), bucket, f"some/prefix/{path.relative_to(tmp_path / 'store')}")
    client.put_object(Bucket=bucket, Key="some/other", Body=b"not ours")
    hosts = inventory(
        tmp_path,
        {
            "saasops_retention": {"daily": 2},
            "saasops_rpo": "24h",
            "saasops_store": {
                "type": "s3",
                "bucket": bucket,
                "prefix": "some/prefix",
                "endpoint_url": s3_server.endpoint,
                "region": "auto",
                "access_key": s3_server.access_key,
                "secret_key": s3_server.secret_key,
            },
        },
    )

    def keys() -> set[str]:
        found = {item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])}
        # what the guard keeps beside the sets is its own
        return {key for key in found if not re.search(r"/(journal|leases)/", key)}

    before = keys()
    listed = play("backups", hosts, "-vvv")
    planned = play("prune", hosts, "--check", "--diff", "-vvv")
    assert keys() == before
    done = play("prune", hosts, "-vvv")
    for run in (listed, planned, done):
        assert run.code == 0, run.output
        assert s3_server.secret_key not in run.output
    assert "3 of 5 sets would be deleted" in planned.output
    assert {key.split("/")[3] for key in keys() - {"some/other"}} == set(ids[-2:])
    assert "some/other" in keys()
    again = play("prune", hosts)
    assert (again.code, again.changed) == (0, 0), again.output
